"""Safe claims with the truth exactly at the margin; promotion over stages; quantile guardrails."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import special
from score_paths import (
    HOURS,
    RAMP,
    Study,
    Traffic,
    alike,
    control_start,
    enough,
    evidence,
    happened,
    path_sums,
    planned,
    rho2_of,
    running,
    stage_ends,
    traffic,
    warm_up,
)  # fmt: skip

from abtest.analysis.constants import MIN_TAIL, tunings
from abtest.metrics.base import MetricSpec
from abtest.metrics.mean import MeanMetric
from abtest.metrics.proportion import ProportionMetric
from abtest.metrics.quantile import QuantileMetric
from abtest.metrics.ratio import RatioMetric
from abtest.stats.mixture import log_e_two_sided, tuning
from abtest.stats.score import PairSums, stratified_score

SAFE, HALT = 0.05, 0.01


def proportion(points: float) -> MetricSpec:
    guardrail = {"margin": {"points": points}}
    return ProportionMetric.model_validate(
        {"name": "m", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": guardrail}
    )


def mean(relative: float) -> MetricSpec:
    guardrail = {"margin": {"relative": relative}}
    return MeanMetric.model_validate(
        {"name": "m", "kind": "mean", "value": "cost_usd", "better": "lower", "guardrail": guardrail}
    )


def ratio(relative: float) -> MetricSpec:
    return RatioMetric.model_validate({
        "name": "m", "kind": "ratio", "numerator": "cost_usd", "denominator": "output_tokens", "better": "lower",
        "guardrail": {"margin": {"relative": relative}},
    })  # fmt: skip


def quantile(q: float, relative: float) -> QuantileMetric:
    guardrail = {"margin": {"relative": relative}}
    return QuantileMetric.model_validate(
        {"name": "m", "kind": "quantile", "value": "latency_ms", "q": q, "better": "lower", "guardrail": guardrail}
    )


# -- five shapes -------------------------------------------------------------------------------------------------------

MARGINS = {"binary 5 %": 0.01, "binary 0.3 %": 0.01, "lognormal": 0.10, "Pareto": 0.20, "ratio": 0.10}
SHAPES = tuple(MARGINS)


def draw(rng: np.random.Generator, t: Traffic, shape: str, harm: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return numerator and denominator a row, treatment worse by `harm` margins; ICC 0.1."""
    u, m = alike(rng, t, 0.1), MARGINS[shape] * harm
    treated = t.arm == 1
    ones = np.ones(t.rows)
    if shape.startswith("binary"):
        base = 0.05 if shape == "binary 5 %" else 0.003
        return (u < base + m * treated).astype(float), ones
    scale = np.where(treated, 1 + m, 1.0)
    if shape == "lognormal":
        return scale * np.exp(1.5 * special.ndtri(u)), ones
    if shape == "Pareto":
        return scale * (1 - u) ** (-1 / 2.2), ones
    # Cost over successes; users with low cost succeed more often, so both move together.
    return scale * np.exp(special.ndtri(u)), (rng.random(t.rows) < 0.95 - 0.3 * u).astype(float)


def spec_of(shape: str) -> MetricSpec:
    margin = MARGINS[shape]
    return proportion(margin) if shape.startswith("binary") else ratio(margin) if shape == "ratio" else mean(margin)


def at_margin(
    rng: np.random.Generator, *, shape: str, users: int = 6000, rows: int = 15_000, harm: float = 1.0
) -> list[str]:
    """Ramp 1 -> 5 -> 20 -> 50 %, hourly looks: which variances call it safe, or harmful, at any look."""
    t = traffic(rng, users, rows)
    x, y = draw(rng, t, shape, harm)
    spec, frozen = spec_of(shape), warm_up(t, x, y)
    binary = shape.startswith("binary")
    score = stratified_score(path_sums(t, x, y), RAMP, proportion=binary, latches=stage_ends(t))
    c = score.contrast(MARGINS[shape], "absolute" if binary else "relative")
    safe, halt = (rho2_of(spec, frozen, alpha, RAMP) for alpha in (SAFE, HALT))
    ready = enough(score)
    plug, both = running(c.v_plug), running(np.maximum(c.v_plug, c.v_design))
    return happened(**{
        "safe by plug-in": evidence(-c.score, plug, safe, SAFE) & ready,
        "safe by plug-in, no 30-unit gate": evidence(-c.score, plug, safe, SAFE),
        "safe by plug-in and design": evidence(-c.score, both, safe, SAFE) & ready,
        "safe": evidence(-c.score, c.v, safe, SAFE) & ready,
        "safe, no 30-unit gate": evidence(-c.score, c.v, safe, SAFE),
        "harm by design alone": evidence(c.score, running(c.v_design), halt, HALT) & ready,
        "harm": evidence(c.score, c.v, halt, HALT) & ready,
        "harm at 5 %": evidence(c.score, c.v, rho2_of(spec, frozen, 0.05, RAMP), 0.05) & ready,
        "harm by design alone at 5 %": evidence(c.score, running(c.v_design), rho2_of(spec, frozen, 0.05, RAMP), 0.05) & ready,
    })  # fmt: skip


AT_MARGIN = {
    s: Study(f"truth at the margin: {s}", partial(at_margin, shape=s), 120, 3000, 200 + i) for i, s in enumerate(SHAPES)
}


def no_effect(rng: np.random.Generator, *, shape: str, users: int = 6000, rows: int = 15_000) -> list[str]:
    """The two-sided interval of the difference on the ramp, no effect: does it exclude zero at any hourly look?"""
    t = traffic(rng, users, rows)
    x, y = draw(rng, t, shape, harm=0.0)
    spec, frozen = spec_of(shape), warm_up(t, x, y)
    score = stratified_score(path_sums(t, x, y), RAMP, proportion=shape.startswith("binary"), latches=stage_ends(t))
    c, ready = score.contrast(), enough(score)
    rho2 = tunings(spec, frozen, 0.05, planned(RAMP), one_sided=False)
    excluded = {
        n: log_e_two_sided(c.score, v, rho2) >= np.log(20) for n, v in (("ours", c.v), ("plug-in", running(c.v_plug)))
    }
    return happened(**{name: (out & ready) for name, out in excluded.items()})


NO_EFFECT = {
    s: Study(f"interval excludes zero, no effect: {s}", partial(no_effect, shape=s), 60, 2000, 210 + i)
    for i, s in enumerate(SHAPES)
}


# -- promotion over four stages ------------------------------------------------------------------------------------------


def only_stage(sums: PairSums, k: int) -> PairSums:
    """Return one stage as if the experiment began there."""
    looks = slice(k * HOURS, (k + 1) * HOURS)
    cells = {n: getattr(sums, n)[:, k : k + 1, looks] for n in ("units", "x", "y")}
    pairs = {n: getattr(sums, n)[:, k : k + 1, :, k : k + 1, looks] for n in ("xx", "xy", "yx", "yy")}
    return PairSums(**cells, **pairs, centre=sums.centre)


def promotion(rng: np.random.Generator, *, users: int = 6000, rows: int = 24_000) -> list[str]:
    """Harm exactly at the margin (5 % -> 6 %): is it called safe, so promoted, at least once over four stages?"""
    t = traffic(rng, users, rows)
    x, _ = draw(rng, t, "binary 5 %")
    spec, frozen = spec_of("binary 5 %"), warm_up(t, x)
    sums = path_sums(t, x)
    score = stratified_score(sums, RAMP, proportion=True, latches=stage_ends(t))
    c, ready = score.contrast(0.01), enough(score)
    fixed = (-c.score / np.sqrt(np.maximum(c.v, 1e-300)) >= 1.644854) & ready
    restarted = []
    for k, share in enumerate(RAMP):
        own = stratified_score(only_stage(sums, k), (share,), proportion=True)
        d = own.contrast(0.01)
        restarted.append((evidence(-d.score, d.v, rho2_of(spec, frozen, SAFE, (share,)), SAFE) & enough(own)).any())
    cumulative = evidence(-c.score, c.v, rho2_of(spec, frozen, SAFE, RAMP), SAFE) & ready
    return happened(**{"fixed 5 % bound": fixed, "restarted in each stage": restarted, "cumulative": cumulative})


PROMOTION = Study("promoted over four stages, harm at the margin", promotion, 120, 3000, 220)


def promotion_clock(rng: np.random.Generator, *, batch: int = 200) -> dict[str, float]:
    """The same with a perfect variance: Brownian motion in the clock of the ramp, 24 looks a stage."""
    ends = np.array(planned(RAMP))
    v = np.concatenate([np.linspace(lo, hi, HOURS + 1)[1:] for lo, hi in zip([0.0, *ends[:-1]], ends, strict=True)])
    steps = np.diff(v, prepend=0.0)
    moves = rng.standard_normal((batch, v.size)) * np.sqrt(steps)
    walk = np.cumsum(moves, axis=1)
    restarted = np.zeros(batch, dtype=bool)
    for k in range(len(ends)):
        looks = slice(k * HOURS, (k + 1) * HOURS)
        own_v = np.cumsum(steps[looks])
        own = np.cumsum(moves[:, looks], axis=1)
        rho2 = tuning(own_v[-1], SAFE, one_sided=True)
        restarted |= evidence(own, np.broadcast_to(own_v, own.shape), rho2, SAFE).any(axis=1)
    cumulative = evidence(walk, np.broadcast_to(v, walk.shape), tuning(ends, SAFE, one_sided=True), SAFE).any(axis=1)
    fixed = (walk / np.sqrt(v) >= 1.644854).any(axis=1)
    return {
        "fixed 5 % bound": fixed.mean(),
        "restarted in each stage": restarted.mean(),
        "cumulative": cumulative.mean(),
    }


PROMOTION_CLOCK = Study("the same with a perfect variance (200 runs in one)", promotion_clock, 10, 50, 221)


# -- quantile guardrails -------------------------------------------------------------------------------------------------


def frozen_threshold(t: Traffic, value: np.ndarray, q: float, calls: int = MIN_TAIL) -> float | None:
    """Return control's quantile in the warm-up, doubled until `calls` calls lie above it (constants.py)."""
    units = 200
    while units <= t.users:
        rows = control_start(t, units)
        if len(rows) * (1 - q) >= calls:
            return float(np.quantile(value[rows], q))
        units *= 2
    return None


def worse(latency: np.ndarray, treated: np.ndarray, q: float, margin: float, change: str) -> np.ndarray:
    """Return latencies whose treatment's q-quantile is exactly 1 + margin times control's exp(0.6 z_q)."""
    top, p90 = np.exp(0.6 * special.ndtri(q)), np.exp(0.6 * special.ndtri(0.9))
    if change == "scale":
        return latency * np.where(treated, 1 + margin, 1.0)
    if change == "shift":
        return latency + margin * top * treated
    stretch = ((1 + margin) * top - p90) / (top - p90)
    return np.where(treated & (latency > p90), p90 + stretch * (latency - p90), latency)


def quantile_guardrail(
    rng: np.random.Generator,
    *,
    q: float,
    share: float,
    users: int = 4000,
    rows: int = 40_000,
    looks: int = 48,
    margin: float = 0.4,
    change: str = "scale",
) -> list[str]:
    """Latency exactly at its margin, ten calls a user, ICC 0.2. `change`: all of it 1.4 times as long ("scale"), the
    same delay for every call ("shift"), or only what is slower than the p90 ("tail")."""
    t = traffic(rng, users, rows, (share,), looks, even=True)
    latency = worse(np.exp(0.6 * special.ndtri(alike(rng, t, 0.2))), t.arm == 1, q, margin, change)
    threshold = frozen_threshold(t, latency, q)
    if threshold is None:
        return []
    x = (latency > np.where(t.arm == 1, (1 + margin) * threshold, threshold)).astype(float)
    spec = quantile(q, margin)
    safe, halt = (rho2_of(spec, {"threshold": threshold}, alpha, (share,)) for alpha in (SAFE, HALT))
    score = stratified_score(path_sums(t, x), (share,), proportion=True, latches=stage_ends(t))
    c = score.contrast()
    calls = score.sums.y[:, 0].min(axis=0) * (1 - q) >= 20
    ready = enough(score) & calls
    alone = Traffic(np.arange(t.rows), t.look, t.stage, t.arm, t.time, t.rows, t.looks, t.shares)
    r = stratified_score(path_sums(alone, x), (share,)).contrast()
    row_v = running(r.v_plug)
    z = np.where(row_v > 0, r.score / np.sqrt(np.where(row_v > 0, row_v, 1.0)), 0.0)
    return happened(**{
        "harm": evidence(c.score, c.v, halt, HALT) & ready,
        "harm at 5 %": evidence(c.score, c.v, rho2_of(spec, {"threshold": threshold}, 0.05, (share,)), 0.05) & ready,
        "safe": evidence(-c.score, c.v, safe, SAFE) & ready,
        "safe by plug-in": evidence(-c.score, running(c.v_plug), safe, SAFE) & ready,
        "rows, sequence: harm at 5 %": evidence(r.score, row_v, safe, SAFE) & ready,
        "rows, sequence: safe": evidence(-r.score, row_v, safe, SAFE) & ready,
        "rows, one look, two-sided 5 %": abs(z[-1]) > 1.959964,
    })  # fmt: skip


QUANTILES = {
    (q, share): Study(f"p{100 * q:g} at the margin, share {100 * share:g} %", partial(quantile_guardrail, q=q, share=share), 80, 2000, 230 + i)
    for i, (q, share) in enumerate([(0.95, 0.05), (0.95, 0.5), (0.99, 0.05), (0.99, 0.5)])
}  # fmt: skip

CHANGES = {
    (change, users): Study(
        f"p99 at the margin, share 50 %, {change}, {users} users",
        partial(quantile_guardrail, q=0.99, share=0.5, users=users, rows=10 * users, change=change), 40, 1500 if users < 9999 else 100, 240 + i,
    )
    for i, (change, users) in enumerate([("shift", 4000), ("tail", 4000), ("shift", 40_000), ("tail", 40_000)])
}  # fmt: skip


def threshold_choice(
    rng: np.random.Generator, *, change: str, users: int = 20_000, rows: int = 200_000, looks: int = 8
) -> list[str]:
    """Where the threshold comes from: the warm-up until 20 (the product) or 200 calls lie above it, or control so far.

    p99 exactly at its margin of 40 %, 50/50, ICC 0.2, eight looks; one stage, so plug-in and design variance in closed form.
    """
    q, margin, share = 0.99, 0.4, 0.5
    t = traffic(rng, users, rows, (share,), looks, even=True)
    latency = worse(np.exp(0.6 * special.ndtri(alike(rng, t, 0.2))), t.arm == 1, q, margin, change)
    frozen = {f"frozen at {n} calls": frozen_threshold(t, latency, q, n) for n in (20, 200)}
    seen: list[str] = []
    for name, threshold in {**frozen, "control so far": None}.items():
        scores, clocks = [], []
        for look in range(looks):
            n = int(np.searchsorted(t.look, look, side="right"))
            unit, arm, value = t.unit[:n], t.arm[:n], latency[:n]
            at = float(np.quantile(value[arm == 0], q)) if threshold is None else threshold
            x = value > np.where(arm == 1, (1 + margin) * at, at)
            s, v = one_stage(unit, arm, x.astype(float), share, users)
            scores.append(s)
            clocks.append(v)
        v, s = running(np.array(clocks)), np.array(scores)
        spec = quantile(q, margin)
        for what, sign, alpha in (("harm", 1, HALT), ("harm at 5 %", 1, 0.05), ("safe", -1, SAFE)):
            rho2 = rho2_of(spec, {"threshold": 1.0}, alpha, (share,))
            if evidence(sign * s, v, rho2, alpha).any():
                seen.append(f"{what}, {name}")
    return seen


def one_stage(unit: np.ndarray, arm: np.ndarray, x: np.ndarray, share: float, users: int) -> tuple[float, float]:
    """Return S and max(plug-in, design variance) of one stage at margin zero."""
    y = np.bincount(arm, minlength=2).astype(float)
    r = np.bincount(arm, weights=x, minlength=2) / y
    w = y[0] * y[1] / y.sum()
    plug = (np.bincount(unit, weights=(x - r[arm]) / y[arm], minlength=users) ** 2).sum() * w * w
    design = (np.bincount(unit, weights=x - x.mean(), minlength=users) ** 2).sum() * share * (1 - share)
    return float(w * (r[1] - r[0])), float(max(plug, design))


THRESHOLDS = {
    change: Study(
        f"where the threshold comes from, {change}", partial(threshold_choice, change=change), 8, 150, 250 + i
    )
    for i, change in enumerate(("scale", "shift", "tail"))
}
