"""The speed of `abtest.stats`: looks a second, against the limit of numpy and against gbstats; what an import costs.

Every ratio is the median over rounds in which both sides take turns, with the smallest and the largest round beside it:
the machine is shared, and single times mean nothing. "A core" is process time, one thread.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from abtest.stats import mixture
from benchmarks.options import Options, table
from benchmarks.peers.environment import Peer, PeerUnavailableError

LOOKS = 100_000
ALPHA = 0.05
TARGET_LOOKS = 10e6
TARGET_GBSTATS = 200.0
HEAVY = ("scipy.stats", "statsmodels", "polars", "duckdb", "pydantic")


@dataclass(frozen=True)
class Spread:
    """A median with its smallest and largest round."""

    median: float
    least: float
    most: float

    def text(self, digits: str = ",.3g") -> str:
        """Return "median (least to most)"."""
        return f"{self.median:{digits}} ({self.least:{digits}} to {self.most:{digits}})"


def spread(values: list[float]) -> Spread:
    """Return median, least and most."""
    return Spread(statistics.median(values), min(values), max(values))


def core_seconds(call: Callable[[], object], calls: int) -> float:
    """Return process time a call."""
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls


# --- what is timed ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Looks:
    """Random looks: counts of two arms, and what the score makes of them."""

    n_c: np.ndarray
    x_c: np.ndarray
    n_t: np.ndarray
    x_t: np.ndarray
    estimate: np.ndarray
    variance: np.ndarray
    v: np.ndarray
    rho2: float


def random_looks(count: int = LOOKS, seed: int = 501) -> Looks:
    """Return looks at a rate near 5 %, 1,000 to 20,000 units an arm."""
    rng = np.random.default_rng(seed)
    n_c, n_t = rng.integers(1000, 20_000, count).astype(float), rng.integers(1000, 20_000, count).astype(float)
    x_c, x_t = rng.binomial(n_c.astype(int), 0.05).astype(float), rng.binomial(n_t.astype(int), 0.05).astype(float)
    estimate, variance, v = score_of_counts(n_c, x_c, n_t, x_t)
    return Looks(n_c, x_c, n_t, x_t, estimate, variance, v, float(mixture.tuning(float(np.median(v)), ALPHA)))


def score_of_counts(n_c, x_c, n_t, x_t):
    """Return (D, Var D, v) of the difference of two proportions, from counts."""
    p_c, p_t = x_c / n_c, x_t / n_t
    variance = p_c * (1 - p_c) / n_c + p_t * (1 - p_t) / n_t
    weight = n_c * n_t / (n_c + n_t)
    return p_t - p_c, variance, weight * weight * variance


def from_counts(looks: Looks) -> None:
    """Do what one gbstats call does, for all looks: estimate, error, interval and p-value from counts."""
    estimate, variance, v = score_of_counts(looks.n_c, looks.x_c, looks.n_t, looks.x_t)
    mixture.confidence_sequence(estimate, variance, v, looks.rho2, ALPHA)
    mixture.anytime_pvalue(mixture.log_e_two_sided(estimate * np.sqrt(v / variance), v, looks.rho2))


def limit(looks: Looks) -> None:
    """The arithmetic of the closed form and nothing else: D -+ sqrt(V (1+R)/R (2 log(1/alpha) + log(1+R)))."""
    r = looks.rho2 * looks.v
    radius = np.sqrt(looks.variance * (1 + 1 / r) * (np.log1p(r) - 2 * np.log(ALPHA)))
    looks.estimate - radius, looks.estimate + radius


# --- the tables ------------------------------------------------------------------------------------------------------


def run(options: Options) -> str:
    """Return the tables of looks, of calls and of imports."""
    rounds = 3 if options.quick else 15
    return "\n\n".join([vectorised(rounds), against_gbstats(rounds, options), imports(3 if options.quick else 9)])


def vectorised(rounds: int) -> str:
    """Return looks a second a core, and how many times the bare arithmetic each call takes."""
    looks = random_looks()
    score = looks.estimate * np.sqrt(looks.v / looks.variance)
    calls: dict[str, Callable[[], object]] = {
        "`confidence_sequence`, two-sided (target 10)": lambda: mixture.confidence_sequence(
            looks.estimate, looks.variance, looks.v, looks.rho2, ALPHA
        ),
        "`log_e_two_sided`": lambda: mixture.log_e_two_sided(score, looks.v, looks.rho2),
        "`log_e_one_sided`": lambda: mixture.log_e_one_sided(score, looks.v, looks.rho2),
        "`log_e_informed`, two-sided": lambda: mixture.log_e_informed(score, looks.v, 0.3, 0.1),
        "interval and p-value from counts": lambda: from_counts(looks),
    }
    bare, timed = [], {name: [] for name in calls}
    for _ in range(rounds):
        bare.append(core_seconds(lambda: limit(looks), 5))
        for name, call in calls.items():
            timed[name].append(core_seconds(call, 5))
    rows = [
        [
            name,
            spread([LOOKS / s / 1e6 for s in seconds]).text(),
            spread([s / b for s, b in zip(seconds, bare, strict=True)]).text(),
        ]
        for name, seconds in timed.items()
    ]
    return table((f"call on {LOOKS:,} looks", "million looks a second a core", "times the bare arithmetic"), rows)


def against_gbstats(rounds: int, options: Options) -> str:
    """Return how many times faster than one call of gbstats' sequential t-test one look is here."""
    looks = random_looks()
    d, error, v = float(looks.estimate[0]), float(looks.variance[0]) ** 0.5, float(looks.v[0])
    scalar, many, raw = [], [], []
    try:
        with Peer("gbstats", options.environments) as peer:
            peer.ask("time", calls=100)
            for _ in range(rounds):
                theirs = peer.ask("time", calls=500)
                raw.append(theirs * 1e6)
                one = core_seconds(lambda: mixture.mixture_estimate(d, error, v, looks.rho2, ALPHA), 500)
                scalar.append(theirs / one)
                many.append(theirs / (core_seconds(lambda: from_counts(looks), 3) / LOOKS))
    except PeerUnavailableError as reason:
        return f"gbstats is skipped: {reason}"
    rows = [
        ["one gbstats call, microseconds", spread(raw).text()],
        ["one scalar `mixture_estimate`", f"{spread(scalar).text()} times as fast"],
        [f"one look of {LOOKS:,}, from counts (target 200)", f"{spread(many).text()} times as fast"],
    ]
    return table(("against `SequentialTwoSidedTTest`, in turns", "median (least to most)"), rows)


def imports(rounds: int) -> str:
    """Return what `import abtest.stats.mixture` costs, in fresh processes, and what it loads."""
    names = ("numpy, scipy.special", "abtest", "abtest.stats.mixture", "scipy.stats", "statsmodels.api")
    seconds = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            seconds[name].append(import_seconds(name))
    base = seconds[names[0]]
    rows = [
        [f"`import {name}`", spread([s / b for s, b in zip(seconds[name], base, strict=True)]).text(".2f"),
         spread([1000 * s for s in seconds[name]]).text(",.0f")]
        for name in names
    ]  # fmt: skip
    loaded = heavy_modules("abtest.stats.mixture")
    note = f"Of {', '.join(HEAVY)} it loads: {', '.join(loaded) or 'none'}."
    return (
        table(("in a fresh process", "times `numpy, scipy.special`", "milliseconds of process time"), rows)
        + f"\n\n{note}"
    )


def import_seconds(names: str) -> float:
    """Return the process time a fresh interpreter needs for `import names`, its own start not counted."""
    code = f"import time; s = time.process_time(); import {names}; print(time.process_time() - s)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def heavy_modules(name: str) -> list[str]:
    """Return which of the heavy packages are in memory after `import name` and one sequential test."""
    code = (
        f"import sys, {name} as m; m.mixture_estimate(0.1, 0.05, 10.0, m.tuning(10.0, 0.05), 0.05);"
        f"print(*[h for h in {HEAVY!r} if h in sys.modules])"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
