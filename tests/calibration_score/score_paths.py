"""Shared by the simulations of the clustered, stage-stratified score: traffic, moments at every look, tuning, counting.

`ABTEST_CALIBRATE=full` runs every study in full; otherwise the reduced size of CI. Seeds are fixed: a study is a function
of (seed, runs), run i draws from SeedSequence((seed, i)).
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import stats

from abtest.analysis.constants import fractions_of, tunings
from abtest.analysis.judge import MIN_UNITS
from abtest.metrics.base import MetricSpec
from abtest.stats.mixture import log_e_one_sided
from abtest.stats.score import PairSums, StratifiedScore

RAMP = (0.01, 0.05, 0.20, 0.50)
HOURS = 24
FULL = os.environ.get("ABTEST_CALIBRATE") == "full"


# -- counting ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """How often something happened."""

    hits: int
    runs: int

    @property
    def value(self) -> float:
        return self.hits / self.runs

    @property
    def std_error(self) -> float:
        return math.sqrt(max(self.value * (1 - self.value), 1 / self.runs) / self.runs)

    def at_most(self, level: float) -> bool:
        """Not above `level` beyond chance: the count stays within the 99.9 % point of Binomial(runs, level)."""
        return self.hits <= stats.binom.ppf(0.999, self.runs, level)

    def at_least(self, level: float) -> bool:
        """Not below `level` beyond chance (99.9 %)."""
        return self.hits >= stats.binom.ppf(0.001, self.runs, level)

    def above(self, level: float) -> bool:
        """Above `level` beyond chance (99.9 %)."""
        return not self.at_most(level)

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({self.hits} of {self.runs})"


@dataclass(frozen=True)
class Study:
    """One simulated cell: `run` gets a generator and returns what happened (names), the rest is counting."""

    name: str
    run: Callable[[np.random.Generator], Iterable[str] | dict[str, float]]
    reduced: int
    full: int
    seed: int

    def measure(self, runs: int | None = None) -> Counts:
        """Run it in the size that the environment asks for."""
        runs = runs or (self.full if FULL else self.reduced)
        return _measure(self, runs)


@cache
def _measure(study: Study, runs: int) -> Counts:
    """Several tests read one study: it runs once."""
    seen: Counter[str] = Counter()
    values: dict[str, list[float]] = {}
    for i in range(runs):
        outcome = study.run(np.random.default_rng(np.random.SeedSequence((study.seed, i))))
        if isinstance(outcome, dict):
            for name, value in outcome.items():
                values.setdefault(name, []).append(float(value))
        else:
            seen.update(set(outcome))
    return Counts(runs, seen, values)


@dataclass(frozen=True)
class Counts:
    """What a study saw."""

    runs: int
    seen: Counter[str]
    values: dict[str, list[float]]

    def __getitem__(self, name: str) -> Rate:
        return Rate(self.seen[name], self.runs)

    def median(self, name: str) -> float:
        return float(np.median(self.values[name]))


def happened(**facts: Any) -> list[str]:
    """Return the names of what is true (at any look)."""
    return [name for name, fact in facts.items() if np.any(fact)]


# -- traffic -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """Rows in order of time: who, at which look (hour), in which stage and arm. Sticky, nested hash; users return."""

    unit: np.ndarray
    look: np.ndarray
    stage: np.ndarray
    arm: np.ndarray
    time: np.ndarray
    users: int
    looks: int
    shares: tuple[float, ...]

    @property
    def rows(self) -> int:
        return len(self.unit)


def traffic(
    rng: np.random.Generator,
    users: int,
    rows: int,
    shares: Sequence[float] = RAMP,
    looks_a_stage: int = HOURS,
    *,
    even: bool = False,
) -> Traffic:
    """Draw rows at uniform times; users differ in activity (gamma, shape 1.5) unless `even`."""
    looks = looks_a_stage * len(shares)
    time = np.sort(rng.random(rows))
    if even:
        unit = rng.integers(0, users, rows)
    else:
        edges = np.cumsum(rng.gamma(1.5, size=users))
        unit = np.minimum(np.searchsorted(edges, rng.random(rows) * edges[-1]), users - 1)
    look = np.minimum((time * looks).astype(np.int64), looks - 1)
    stage = look // looks_a_stage
    arm = (rng.random(users)[unit] < np.asarray(shares)[stage]).astype(np.int64)
    return Traffic(unit, look, stage, arm, time, users, looks, tuple(shares))


def alike(rng: np.random.Generator, t: Traffic, icc: float) -> np.ndarray:
    """Return a uniform number a row; two rows of a user are the same number with probability icc (so any function of
    it has intra-user correlation icc exactly)."""
    own = rng.random(t.users)[t.unit]
    return np.where(rng.random(t.rows) < math.sqrt(icc), own, rng.random(t.rows))


# -- moments at every look ---------------------------------------------------------------------------------------------


def path_sums(t: Traffic, x: np.ndarray, y: np.ndarray | None = None) -> PairSums:
    """Return cumulative pair moments at every look, as sql/pair_moments.sql makes them (checked in test_score_paths)."""
    y = np.ones(t.rows) if y is None else np.asarray(y, dtype=float)
    stages, looks = len(t.shares), t.looks
    centre = float(np.sum(x) / y.sum())
    x = np.asarray(x, dtype=float) - centre * y
    order = np.argsort(t.unit * looks + t.look, kind="stable")
    unit, look, stage, arm, x, y = (a[order] for a in (t.unit, t.look, t.stage, t.arm, x, y))
    first = np.ones(len(unit), dtype=bool)
    first[1:] = (unit[1:] != unit[:-1]) | (stage[1:] != stage[:-1])
    start = np.flatnonzero(first)
    group = np.cumsum(first) - 1

    def within(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total = np.cumsum(a)
        after = total - (total - a)[start][group]
        return after - a, after

    cell = arm * stages + stage

    def over_looks(index: np.ndarray, weights: np.ndarray | None, cells: int) -> np.ndarray:
        table = np.bincount(index, weights=weights, minlength=cells * looks).reshape(cells, looks)
        return np.cumsum(table, axis=1)

    (bx, ax), (by, ay) = within(x), within(y)
    at = cell * looks + look
    small = (2, stages, looks)
    sums = {
        "units": over_looks(at, first.astype(float), 2 * stages).reshape(small),
        "x": over_looks(at, x, 2 * stages).reshape(small),
        "y": over_looks(at, y, 2 * stages).reshape(small),
    }
    pairs = {name: np.zeros((2, stages, 2, stages, looks)) for name in ("xx", "xy", "yx", "yy")}
    for name, gain in (("xx", ax * ax - bx * bx), ("xy", ax * ay - bx * by), ("yy", ay * ay - by * by)):
        own = over_looks(at, gain, 2 * stages).reshape(small)
        for a in range(2):
            for k in range(stages):
                pairs[name][a, k, a, k] = own[a, k]
                if name == "xy":
                    pairs["yx"][a, k, a, k] = own[a, k]
    for k in range(stages - 1):
        mine = stage == k
        closed_x = np.bincount(unit[mine], weights=x[mine], minlength=t.users)
        closed_y = np.bincount(unit[mine], weights=y[mine], minlength=t.users)
        arm_then = np.full(t.users, -1)
        arm_then[unit[mine]] = arm[mine]
        later = np.flatnonzero((stage > k) & (arm_then[unit] >= 0))
        u = unit[later]
        index = ((arm_then[u] * 2 + arm[later]) * stages + stage[later]) * looks + look[later]
        for name, product in (
            ("xx", closed_x[u] * x[later]), ("xy", closed_x[u] * y[later]),
            ("yx", closed_y[u] * x[later]), ("yy", closed_y[u] * y[later]),
        ):  # fmt: skip
            pairs[name][:, k] += over_looks(index, product, 4 * stages).reshape(2, 2, stages, looks)
    return PairSums(**sums, **pairs, centre=centre)


# -- the project's own tuning and gates --------------------------------------------------------------------------------


def planned(shares: Sequence[float]) -> list[float]:
    """Return the fractions of the clock at the planned stage ends, by the project's rule."""
    ramp = [SimpleNamespace(share=q, min_hours=None) for q in shares]
    return fractions_of(SimpleNamespace(ramp=ramp), ())  # type: ignore[arg-type]


def warm_up(t: Traffic, x: np.ndarray, y: np.ndarray | None = None, units: int = 200) -> dict[str, float]:
    """Return baseline and variance from control's rows up to the arrival of its 200th unit, as constants.py does."""
    y = np.ones(t.rows) if y is None else y
    rows = control_start(t, units)
    u = t.unit[rows]
    base = float(x[rows].sum() / max(y[rows].sum(), 1e-12))
    residual = np.bincount(u, weights=x[rows] - base * y[rows])
    return {"baseline": base, "variance": float((residual**2).sum() / max(y[rows].sum(), 1e-12))}


def control_start(t: Traffic, units: int) -> np.ndarray:
    """Return the rows of control up to the arrival of its n-th unit."""
    rows = np.flatnonzero(t.arm == 0)
    _, at = np.unique(t.unit[rows], return_index=True)
    at.sort()
    return rows[: at[min(units, len(at)) - 1] + 1]


def rho2_of(spec: MetricSpec, frozen: dict[str, float], alpha: float, shares: Sequence[float]) -> np.ndarray:
    """Return the project's one-sided tunings."""
    rho2 = tunings(spec, frozen, alpha, planned(shares), one_sided=True)
    assert rho2 is not None
    return rho2


def enough(score: StratifiedScore) -> np.ndarray:
    """Return (B,) whether both arms have the units below which nothing is said (judge.py)."""
    units = score.sums.units * score.used
    return units.max(axis=1).min(axis=0) >= MIN_UNITS


def evidence(s: np.ndarray, v: np.ndarray, rho2: Any, alpha: float) -> np.ndarray:
    """Return (B,) whether the one-sided mixture rejects at each look; positive s is evidence."""
    return log_e_one_sided(s, v, rho2) >= -math.log(alpha)


def stage_ends(t: Traffic) -> np.ndarray:
    """Return which looks are the last of their stage: their variance holds at all later looks, as in the product."""
    each = t.looks // len(t.shares)
    return np.arange(t.looks) % each == each - 1


def running(v: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(v)
