"""The gate on simulated shadow runs, looked at 20 times while users come back: how often it is wrong when the truth is the margin.

Users differ in how they ask and in what the candidate does to them; requests of a user come at random looks. Constants are taken
from the first look's first 30 users, as the code takes them. `ABTEST_CALIBRATE=full` runs 4,000 a cell (seeds are in the cells).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from shadow_logs import spec

from abtest.analysis.shadow_constants import tuning_of
from abtest.analysis.shadow_score import Flags
from abtest.metrics.base import MetricSpec
from abtest.stats.mixture import log_e_one_sided

FULL = os.environ.get("ABTEST_CALIBRATE") == "full"
RUNS, LOOKS, WARM_UP = (4000, 20, 30) if FULL else (160, 20, 30)
HALT, SAFE = 0.01, 0.05
Answers = tuple[np.ndarray, np.ndarray]
Draw = Callable[[np.random.Generator, np.ndarray], Answers]
"""(generator, user of each pair) -> control's and the candidate's values, the truth exactly at the margin."""


@dataclass(frozen=True)
class Cell:
    """A metric whose candidate is exactly one margin worse than control."""

    metric: MetricSpec
    draw: Draw
    users: int = 400
    sign: int = 1

    @property
    def relative(self) -> bool:
        assert self.metric.guardrail is not None
        return self.metric.guardrail.margin.kind == "relative"

    @property
    def margin(self) -> float:
        assert self.metric.guardrail is not None
        return self.metric.guardrail.margin.value


def made(kind: str, margin: dict[str, float], better: str = "lower") -> MetricSpec:
    measured = {"event": "refused"} if kind == "proportion" else {"value": "latency_ms"}
    return spec({"name": "m", "kind": kind, "better": better, "guardrail": {"margin": margin}, **measured}).metrics[0]


def flags(base: float, more: float, spread: float) -> Draw:
    """Return refusals: users differ in their rate and in the candidate's effect; a hard request is hard for both."""

    def draw(rng: np.random.Generator, user: np.ndarray) -> Answers:
        users = user.max() + 1
        own = base * rng.gamma(2, 0.5, users)
        effect = more + spread * (rng.random(users) - 0.5)
        hard = rng.random(user.size)
        both = rng.random(user.size) < 0.5
        other = np.where(both, hard, rng.random(user.size))
        return (hard < own[user]).astype(float), (other < np.clip(own + effect, 0, 1)[user]).astype(float)

    return draw


def skewed(more: float, noise: Callable[[np.random.Generator, int], np.ndarray]) -> Draw:
    """Return costs: the user, the request and each answer have their factor; the candidate's has the mean 1 + more."""

    def draw(rng: np.random.Generator, user: np.ndarray) -> Answers:
        users = user.max() + 1
        shared = np.exp(0.5 * rng.normal(size=users))[user] * np.exp(0.5 * rng.normal(size=user.size))
        effect = np.exp(0.2 * rng.normal(size=users) - 0.02)[user]
        return shared * noise(rng, user.size), (1 + more) * effect * shared * noise(rng, user.size)

    return draw


def scores(more: float) -> Draw:
    """Return scores between 0 and 1 of which higher is better; the candidate's are lower by the margin."""

    def draw(rng: np.random.Generator, user: np.ndarray) -> Answers:
        users = user.max() + 1
        shared = 0.5 + 0.1 * rng.normal(size=users)[user] + 0.1 * rng.normal(size=user.size)
        effect = (0.1 * rng.normal(size=users))[user]
        return shared + 0.1 * rng.normal(size=user.size), shared + effect - more + 0.1 * rng.normal(size=user.size)

    return draw


CELLS = {
    "refusals 5 %, 2 points": Cell(made("proportion", {"points": 0.02}), flags(0.05, 0.02, 0.03)),
    "refusals 0.3 %, 1 point": Cell(made("proportion", {"points": 0.01}), flags(0.003, 0.01, 0.01)),
    "format 90 %, 2 points less": Cell(made("proportion", {"points": 0.02}), flags(0.1, 0.02, 0.05)),
    "lognormal cost, 10 %": Cell(
        made("mean", {"relative": 0.1}), skewed(0.1, lambda rng, n: np.exp(0.7 * rng.normal(size=n) - 0.245))
    ),
    "Pareto cost, 10 %": Cell(made("mean", {"relative": 0.1}), skewed(0.1, lambda rng, n: rng.pareto(2.5, n) * 1.5)),
    "score, 0.05 less": Cell(made("mean", {"absolute": 0.05}, "higher"), scores(0.05), sign=-1),
    "score, 40 users": Cell(made("mean", {"absolute": 0.05}, "higher"), scores(0.05), users=40, sign=-1),
}  # fmt: skip


def run(cell: Cell, rng: np.random.Generator, *, better: bool = False) -> tuple[bool, bool]:
    """Return whether one run was ever halted, and ever called safe, at any look."""
    user = np.repeat(np.arange(cell.users), rng.integers(1, 11, cell.users))
    when = np.where(np.concatenate([[True], np.diff(user) > 0]), np.arange(user.size) % LOOKS, 0)
    arrival = np.sort(rng.integers(0, LOOKS, cell.users))
    arrival[:WARM_UP] = 0
    when = np.minimum(arrival[user] + np.floor(rng.exponential(3.0, user.size)).astype(int), LOOKS - 1)
    control, candidate = cell.draw(rng, user)
    c = 1 + cell.sign * cell.margin if cell.relative else 1.0
    shift = 0.0 if cell.relative else cell.margin
    if better:
        candidate = control
    d = cell.sign * (candidate - c * control) - shift

    def by_unit(values: np.ndarray) -> np.ndarray:
        table = np.zeros((cell.users, LOOKS))
        np.add.at(table, (user, when), values)
        return table.cumsum(axis=1)

    units, pairs = by_unit(d), by_unit(np.ones(user.size))
    first = when == 0
    plain = by_unit(candidate - control)[:, 0], pairs[:, 0]
    mean = plain[0].sum() / plain[1].sum()
    frozen = {
        "variance": float(((plain[0] - mean * plain[1]) ** 2).sum() / plain[1].sum()), "baseline": float(control[first].mean()),
    }  # fmt: skip
    s, v = units.sum(axis=0), (units**2).sum(axis=0)
    flag = cell.metric.kind == "proportion"
    if flag:
        v = np.maximum(
            v, [_floor(cell, control, candidate, when <= k, by_unit(control)[:, k], pairs[:, k]) for k in range(LOOKS)]
        )
    ever = {}
    for name, alpha, side in (("halt", HALT, 1), ("safe", SAFE, -1)):
        rho2 = tuning_of(cell.metric, frozen, alpha, one_sided=True, flag=flag)
        assert rho2 is not None
        ever[name] = bool((log_e_one_sided(side * s, v, rho2) >= -np.log(alpha)).any())
    return ever["halt"], ever["safe"]


def _floor(
    cell: Cell, control: np.ndarray, candidate: np.ndarray, seen: np.ndarray, events: np.ndarray, pairs: np.ndarray
) -> float:
    """Return the variance that the code gives a proportion at the margin at least."""
    n, rate = int(seen.sum()), float(control[seen].mean())
    spread = n * rate * (1 - rate)
    deff = max(1.0, float(((events - rate * pairs) ** 2).sum() / spread)) if spread else 1.0
    up, down = (float(np.maximum(x, 0)[seen].sum()) for x in (candidate - control, control - candidate))
    return Flags(n, up, down, rate, deff).variance(cell.margin, cell.sign)


@pytest.mark.parametrize("name", list(CELLS))
def test_a_candidate_at_its_margin_is_rarely_halted_and_rarely_called_safe(name: str) -> None:
    """Halts at most 1 %, wrong safe claims at most 5 %, with two standard errors of the binomial."""
    rng = np.random.default_rng([41, list(CELLS).index(name)])
    found = np.array([run(CELLS[name], rng) for _ in range(RUNS)]).mean(axis=0)
    if FULL:
        print(f"{name}: halted {found[0]:.4f}, called safe {found[1]:.4f} of {RUNS}")
    for share, alpha in zip(found, (HALT, SAFE), strict=True):
        assert share <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / RUNS)


@pytest.mark.parametrize("name", ["refusals 5 %, 2 points", "lognormal cost, 10 %", "score, 0.05 less"])
def test_the_same_answers_are_never_halted_and_mostly_called_safe(name: str) -> None:
    """A candidate that answers as control does: the gate opens within 400 users."""
    rng = np.random.default_rng([43, list(CELLS).index(name)])
    found = np.array([run(CELLS[name], rng, better=True) for _ in range(RUNS // 5)]).mean(axis=0)
    assert found[0] == 0
    assert found[1] > 0.95
