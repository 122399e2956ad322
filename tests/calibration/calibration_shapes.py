"""Five shapes of a metric, sampled batch by batch as sums, so that thousands of experiments fit in memory."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A metric in control and, with the effect of interest, in treatment."""

    name: str
    effect: float
    variances: tuple[float, float]
    kind: str

    def fixed_sample(self):
        """Units an arm of the two-sided fixed test at 5 % with 80 % power."""
        return int(np.ceil((1.959964 + 0.841621) ** 2 * sum(self.variances) / self.effect**2))

    def sums(self, rng, runs, size, share_of_effect):
        """Return (sum, sum of squares) of `size` units in each of `runs` experiments, shape (2, runs)."""
        return SAMPLERS[self.kind](rng, runs, size, share_of_effect)


def _moments(x):
    return np.stack([x.sum(axis=1), (x * x).sum(axis=1)])


def _bernoulli(rng, runs, size, effect):
    hits = rng.binomial(size, 0.05 + 0.01 * effect, size=runs).astype(float)
    return np.stack([hits, hits])


def _normal(rng, runs, size, effect):
    mean = 0.1 * effect + rng.normal(size=runs) / np.sqrt(size)
    squares = rng.chisquare(size - 1, size=runs)
    return np.stack([mean * size, squares + size * mean**2])


def _lognormal(rng, runs, size, effect):
    return _moments(np.exp(rng.normal(size=(runs, size), scale=1.0)) * (1 + 0.1 * effect))


LEVELS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
JUDGE = np.array([0.05, 0.10, 0.20, 0.35, 0.30])
JUDGE_BETTER = JUDGE + np.array([-0.01, -0.02, -0.02, 0.01, 0.04])


def _judge(rng, runs, size, effect):
    counts = rng.multinomial(size, JUDGE + effect * (JUDGE_BETTER - JUDGE), size=runs)
    return np.stack([counts @ LEVELS, counts @ LEVELS**2])


def _pareto(rng, runs, size, effect):
    return _moments((1 + rng.pareto(3.0, size=(runs, size))) * (1 + 0.1 * effect))


SAMPLERS = {"bernoulli": _bernoulli, "normal": _normal, "lognormal": _lognormal, "judge": _judge, "pareto": _pareto}


def _judge_variance(p):
    return float(p @ LEVELS**2 - (p @ LEVELS) ** 2)


_LN = (np.e - 1) * np.e  # variance of exp(N(0, 1))
SHAPES = (
    Shape("Bernoulli 5 -> 6 %", 0.01, (0.05 * 0.95, 0.06 * 0.94), "bernoulli"),
    Shape("normal, d = 0.1", 0.1, (1.0, 1.0), "normal"),
    Shape("lognormal + 10 %", 0.1 * np.exp(0.5), (_LN, 1.21 * _LN), "lognormal"),
    Shape(
        "judge score, 5 points",
        float((JUDGE_BETTER - JUDGE) @ LEVELS),
        (_judge_variance(JUDGE), _judge_variance(JUDGE_BETTER)),
        "judge",
    ),
    Shape("Pareto (3) cost + 10 %", 0.15, (0.75, 1.21 * 0.75), "pareto"),
)


def scores(rng, shape, runs, looks, horizon, share_of_effect):
    """Simulate experiments with two equal arms; return (S, v, W, n) with shapes (runs, looks), (looks,) for n.

    S = w (mean_T - mean_C), w = n/2; v = running maximum of w^2 (s_T^2 + s_C^2)/n, from the data.
    """
    batch = max(int(np.ceil(shape.fixed_sample() * horizon / looks)), 2)
    treated = np.zeros((2, runs))
    control = np.zeros((2, runs))
    s, v, n = np.zeros((runs, looks)), np.zeros((runs, looks)), batch * np.arange(1, looks + 1)
    for k in range(looks):
        treated += shape.sums(rng, runs, batch, share_of_effect)
        control += shape.sums(rng, runs, batch, 0.0)
        w = n[k] / 2
        spread = sum((sq - total**2 / n[k]) / (n[k] - 1) for total, sq in (treated, control))
        s[:, k] = w * (treated[0] - control[0]) / n[k]
        # Below 30 units an arm there is no claim: the clock has not started.
        v[:, k] = w**2 * spread / n[k] if n[k] >= 30 else 0.0
    return s, np.maximum.accumulate(v, axis=1), n / 2, n
