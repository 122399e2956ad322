"""The law the logs are drawn from, and its true values, by formula.

Given user, arm and time all outcomes are independent, so that a scenario harms exactly the metric it names. A user has
one effect each for refusals, latency, cost and helpfulness (standard normal), which is what makes rows of a user alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abtest.simulate.scenarios import FORMAT_OK, HELPFULNESS, RAMP, STAGE_LENGTHS, Scenario

Floats = NDArray[np.float64]

END_S = 1_795_132_800
"""Every simulated period ends at 2026-11-20T00:00:00Z (epoch seconds), so that logs do not depend on today."""

# Traffic. Everyone has one first session at an even time; later ones follow a gamma-distributed activity.
JOINERS = 0.4  # users who appear during the period instead of being there from the start
ACTIVITY_SHAPE = 1.5
LATER_SESSIONS = 2.92  # over a whole period; with 1.5 turns a session it gives about 5 requests a user
SINGLE_TURN = 2 / 3  # a session ends after each turn with this chance

# Outcomes.
REFUSAL_SIGMA = 0.9  # user effect on the logit scale; intra-user correlation about 0.03 at 3 %
ERROR_RATE = 0.005
LATENCY_MEDIAN, LATENCY_SIGMA, LATENCY_USER = 1200.0, 0.5, 0.25  # ms; body: lognormal
TAIL_WEIGHT, TAIL_START, TAIL_INDEX = 0.03, 3500.0, 3.0  # 3 % of the answers: Pareto from 3.5 s
INPUT_MEDIAN, INPUT_SIGMA, INPUT_PER_TURN = 900.0, 0.6, 0.4  # tokens; each earlier turn adds 40 %
OUTPUT_MEDIAN, OUTPUT_SIGMA, OUTPUT_USER, OUTPUT_CAP = 220.0, 0.8, 0.4, 8192.0
THINKS, THINK_START, THINK_INDEX, THINK_CAP = 0.05, 1500.0, 2.5, 32768.0  # reasoning tokens: Pareto, capped
INPUT_PRICE, OUTPUT_PRICE = 2.5e-6, 1e-5  # dollars a token, the same in both arms
HELP_SIGMA, HELP_PRECISION = 0.6, 6.0  # user effect on the logit scale; beta noise around it
JUDGED, JUDGE_FAILS = 0.30, 0.01

QUANTILE = 0.99


@dataclass(frozen=True)
class Metric:
    """What the experiment file says about one metric; `margin` is None for the success metric."""

    better: str
    margin: float | None = None
    margin_kind: str = "points"
    action: str = "halt"


METRICS: Mapping[str, Metric] = {
    "refusal_rate": Metric("lower", 0.01),
    "error_rate": Metric("lower", 0.01),
    "latency_p99": Metric("lower", 0.40, "relative"),
    "cost_per_request": Metric("lower", 0.20, "relative"),
    "format_validity": Metric("higher", 0.01, action="hold"),
    "helpfulness": Metric("higher"),
}


@dataclass(frozen=True)
class Clock:
    """The period and the stages that happened in it; all times are epoch seconds, UTC."""

    start: int
    end: int
    edges: tuple[int, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, days: float, stages: int) -> Clock:
        """Return the clock of a period of `days` days with `stages` stages, cut at whole seconds."""
        start = END_S - round(days * 86400)
        lengths = np.cumsum((0.0, *STAGE_LENGTHS[stages][:-1]))
        edges = tuple(start + round(float(part) * (END_S - start)) for part in lengths)
        return cls(start, END_S, edges, RAMP[:stages])

    @property
    def seconds(self) -> int:
        """Length of the period."""
        return self.end - self.start


def normal_cdf(z: float) -> float:
    """Return the standard normal distribution function at `z`."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def decreasing_root(f: Callable[[float], float], low: float, high: float) -> float:
    """Return x in [low, high] with f(x) = 0 for a decreasing f, by bisection to machine precision."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return (low + high) / 2


@cache
def _logit_normal_table(sigma: float) -> tuple[Floats, Floats]:
    """Return a grid of intercepts b and logit E[expit(b + sigma z)], z standard normal (Gauss-Hermite, 64 nodes)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    grid = np.arange(-25.0, 25.0, 0.02)
    means = (1 / (1 + np.exp(-(grid[:, None] + sigma * nodes)))) @ (weights / weights.sum())
    return grid, np.log(means) - np.log1p(-means)


def logit_normal(mean: Floats, sigma: float, z: Floats) -> Floats:
    """Return expit(b + sigma z) with b such that the mean over a standard normal z is exactly `mean`.

    Args:
        mean: Means in [0, 1], broadcast with `z`; 0 and 1 are returned as they are.
        sigma: Standard deviation on the logit scale.
        z: User effects.

    Returns:
        One probability per element.
    """
    grid, logits = _logit_normal_table(sigma)
    inside = np.clip(mean, 1e-9, 1 - 1e-9)
    intercept = np.interp(np.log(inside) - np.log1p(-inside), logits, grid)
    value = 1 / (1 + np.exp(-(intercept + sigma * z)))
    return np.where((mean > 0) & (mean < 1), value, mean)


def latency_survival(y: float, tail_factor: float) -> float:
    """Return P(latency > y ms): lognormal body, Pareto tail, both times a lognormal user effect.

    With U = exp(s z) and P Pareto(a) from x: P(U x P > y) = P(U > k) + k^-a E[U^a; U < k], k = y/x,
    and E[U^a; U < k] = exp(a^2 s^2/2) Phi(ln k/s - a s).
    """
    sigma = math.hypot(LATENCY_SIGMA, LATENCY_USER)
    body = normal_cdf(math.log(LATENCY_MEDIAN / y) / sigma)
    k, s, a = math.log(y / (TAIL_START * tail_factor)), LATENCY_USER, TAIL_INDEX
    tail = normal_cdf(-k / s) + math.exp(-a * k + (a * s) ** 2 / 2) * normal_cdf(k / s - a * s)
    return (1 - TAIL_WEIGHT) * body + TAIL_WEIGHT * tail


def latency_quantile(q: float, tail_factor: float = 1.0) -> float:
    """Return the q-quantile of the latency in ms."""
    return decreasing_root(lambda y: latency_survival(y, tail_factor) - (1 - q), 1.0, 1e7)


def tail_factor(relative: float) -> float:
    """Return the factor on the tail that moves the p99 by `relative` and leaves the body alone."""
    target = latency_quantile(QUANTILE) * (1 + relative)
    return decreasing_root(lambda factor: (1 - QUANTILE) - latency_survival(target, factor), 0.5, 100.0)


def mean_cost() -> float:
    """Return control's mean cost of a request in dollars; an error costs nothing.

    Lognormal input, growing by turn (geometric, 1/p - 1 earlier turns on average); output min(lognormal, cap) plus,
    for some, min(Pareto, cap): E min(X, c) = x(a - (x/c)^(a-1))/(a-1) for Pareto(a) from x.
    """
    inputs = INPUT_MEDIAN * math.exp(INPUT_SIGMA**2 / 2) * (1 + INPUT_PER_TURN * (1 / SINGLE_TURN - 1))
    sigma = math.hypot(OUTPUT_SIGMA, OUTPUT_USER)
    cap = math.log(OUTPUT_CAP / OUTPUT_MEDIAN) / sigma
    outputs = OUTPUT_MEDIAN * math.exp(sigma**2 / 2) * normal_cdf(cap - sigma) + OUTPUT_CAP * normal_cdf(-cap)
    x, a = THINK_START, THINK_INDEX
    thinking = x * (a - (x / THINK_CAP) ** (a - 1)) / (a - 1)
    return (1 - ERROR_RATE) * (INPUT_PRICE * inputs + OUTPUT_PRICE * (outputs + THINKS * thinking))


def _traffic(clock: Clock) -> tuple[Floats, NDArray[np.intp], Floats]:
    """Return a fine grid of times (0 to 1), the stage of each and the expected traffic there (any unit)."""
    t = (np.arange(20_000) + 0.5) / 20_000
    stage = np.searchsorted(clock.edges, clock.start + t * clock.seconds, side="right") - 1
    return t, stage, 1 + LATER_SESSIONS * (1 - JOINERS + JOINERS * t)


def _row(metric: str, control: float, treatment: float) -> dict[str, Any]:
    effect = treatment - control
    rule = METRICS[metric]
    harm = effect if rule.better == "lower" else -effect
    limit = None if rule.margin is None else rule.margin * (control if rule.margin_kind == "relative" else 1.0)
    small = 1e-12 * max(1.0, abs(control))
    return {
        "control": control,
        "treatment": treatment,
        "effect": effect,
        "relative_effect": effect / control if control else None,
        "sign": 0 if abs(effect) <= small else int(math.copysign(1, effect)),
        "better": rule.better,
        "margin": rule.margin,
        "margin_kind": rule.margin_kind if rule.margin is not None else None,
        "harm_past_margin": None if limit is None else harm > limit + small,
    }


def true_metrics(scenario: Scenario, clock: Clock) -> dict[str, dict[str, Any]]:
    """Return the true values of every metric of the experiment file, by formula.

    Only the refusal rate moves with time. Its value in a stage is its mean over the expected traffic of the stage; its
    overall value weights stage k by q_k (1 - q_k) times its traffic, as the stage-stratified estimate does, because
    arms pooled over a ramp would not be comparable.

    Returns:
        Per metric: control, treatment, effect (treatment - control), relative_effect (None for a zero baseline), sign,
        better, margin, margin_kind, harm_past_margin, and stages, a list of {index, share, control, treatment}.
    """
    t, stage, traffic = _traffic(clock)
    drift = scenario.refusal[0] + (scenario.refusal[1] - scenario.refusal[0]) * t
    kinds = range(len(clock.shares))
    volume = np.array([traffic[stage == k].sum() for k in kinds])
    refusals = np.array([(traffic * drift)[stage == k].sum() for k in kinds]) / volume
    shares = np.array(clock.shares)
    weights = shares * (1 - shares) * volume
    p99 = latency_quantile(QUANTILE)
    flat = {
        "error_rate": (ERROR_RATE, ERROR_RATE),
        "latency_p99": (p99, p99 * (1 + scenario.latency_p99)),
        "cost_per_request": (mean_cost(), mean_cost() * (1 + scenario.cost)),
        "format_validity": (FORMAT_OK, FORMAT_OK + scenario.format_points),
        "helpfulness": (HELPFULNESS, HELPFULNESS + scenario.helpfulness),
    }
    base = float(refusals @ weights / weights.sum())
    values = {"refusal_rate": (base, base + scenario.refusal_points), **flat}
    rows: dict[str, dict[str, Any]] = {}
    for name, (control, treatment) in values.items():
        by_stage = [(control, treatment)] * len(clock.shares)
        if name == "refusal_rate":
            by_stage = [(float(p), float(p) + scenario.refusal_points) for p in refusals]
        stages = [
            {"index": k, "share": clock.shares[k], "control": c, "treatment": d} for k, (c, d) in enumerate(by_stage)
        ]
        rows[name] = {**_row(name, control, treatment), "stages": stages}
    return rows
