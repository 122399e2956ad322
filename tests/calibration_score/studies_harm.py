"""Harm alarms: the drifting ramp, rows against users, one tuning against the mean over stage ends, unit weights."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from score_paths import (
    RAMP,
    Study,
    Traffic,
    alike,
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
)

from abtest.metrics.proportion import ProportionMetric
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided, tuning
from abtest.stats.score import PairSums, stratified_score

EVENT = ProportionMetric.model_validate(
    {
        "name": "refusal_rate",
        "kind": "proportion",
        "event": "refused",
        "better": "lower",
        "guardrail": {"margin": {"points": 0.01}},
    }
)


def pooled(t: Traffic) -> Traffic:
    """Return the traffic as somebody sees it who forgets the stages: one stage, and users still the clusters."""
    return Traffic(t.unit * 2 + t.arm, t.look, np.zeros_like(t.stage), t.arm, t.time, 2 * t.users, t.looks, (0.5,))


def z_values(sums: PairSums) -> tuple[np.ndarray, np.ndarray]:
    """Return the difference of one stage and its plug-in variance (no running maximum, no design variance)."""
    score = stratified_score(sums, [0.5] * sums.stages)
    c = score.contrast(running=False)
    return c.score, c.v_plug


# -- the drifting ramp ---------------------------------------------------------------------------------------------------


def drifting_ramp(rng: np.random.Generator, *, ratio: float, users: int = 8000, rows: int = 40_000) -> list[str]:
    """Base rate 2 -> 8 % while the ramp widens; treatment's rate is `ratio` times control's. ICC 0.2, five rows a user."""
    t = traffic(rng, users, rows)
    base = 0.02 + 0.06 * t.time
    x = (alike(rng, t, 0.2) < base * np.where(t.arm == 1, ratio, 1.0)).astype(float)
    score = stratified_score(path_sums(t, x), RAMP, proportion=True, latches=stage_ends(t))
    frozen, ready = warm_up(t, x), enough(score)
    none, margin = score.contrast(0.0), score.contrast(0.01)
    s, v = z_values(path_sums(pooled(t), x))
    facts = {}
    for alpha in (0.05, 0.01):
        rho2 = rho2_of(EVENT, frozen, alpha, RAMP)
        facts[f"ours {alpha:g}"] = evidence(none.score, none.v, rho2, alpha) & ready
        facts[f"ours, plug-in {alpha:g}"] = evidence(none.score, running(none.v_plug), rho2, alpha) & ready
        facts[f"ours at 1 point {alpha:g}"] = evidence(margin.score, margin.v, rho2, alpha) & ready
        facts[f"pooled {alpha:g}"] = evidence(s, running(v), rho2, alpha) & ready
    return happened(**facts)


DRIFT_NULL = Study("drifting ramp, no effect", partial(drifting_ramp, ratio=1.0), 150, 2000, 101)
DRIFT_HARM = Study("drifting ramp, harm x1.5", partial(drifting_ramp, ratio=1.5), 60, 1000, 102)


# -- rows are not users --------------------------------------------------------------------------------------------------


def rows_and_users(rng: np.random.Generator, *, users: int = 1000, looks: int = 30) -> list[str]:
    """No effect, 50/50, ten rows a user, ICC 0.2, base 5 %; users return over `looks` days."""
    t = traffic(rng, users, users * 10, (0.5,), looks, even=True)
    x = (alike(rng, t, 0.2) < 0.05).astype(float)
    row_t = Traffic(np.arange(t.rows), t.look, t.stage, t.arm, t.time, t.rows, looks, (0.5,))
    row_s, row_v = z_values(path_sums(row_t, x))
    score = stratified_score(path_sums(t, x), (0.5,), proportion=True, latches=stage_ends(t))
    c, ready = score.contrast(), enough(score)
    z = 1.959964
    row_z, user_z = (np.abs(s) / np.sqrt(np.maximum(v, 1e-300)) for s, v in ((row_s, row_v), (c.score, c.v)))
    two = tuning(c.v[-1], 0.05)
    harm = rho2_of(EVENT, warm_up(t, x), 0.05, (0.5,))
    return happened(**{
        "rows, one look": row_z[-1] > z,
        "users, one look": user_z[-1] > z,
        "rows, fixed test daily": (row_z > z) & ready,
        "users, fixed test daily": (user_z > z) & ready,
        "rows, two-sided sequence daily": (log_e_two_sided(row_s, running(row_v), two) >= math.log(20)) & ready,
        "users, two-sided sequence daily": (log_e_two_sided(c.score, c.v, two) >= math.log(20)) & ready,
        "rows, harm sequence daily": evidence(row_s, running(row_v), harm, 0.05) & ready,
        "users, harm sequence daily": evidence(c.score, c.v, harm, 0.05) & ready,
    })  # fmt: skip


ROWS = Study("rows as units", rows_and_users, 300, 3000, 103)


# -- tuning under a ramp -------------------------------------------------------------------------------------------------


def strong_early_harm(
    rng: np.random.Generator, *, alpha: float = 0.01, z: float = 4.5, plan: float = 1.0, batch: int = 200
) -> dict[str, float]:
    """Brownian motion in the clock of the ramp, drift such that E z = 4.5 at the end of the 1 % stage, hourly looks.

    `plan` is the ratio of the true clock at the end of the ramp to the planned one.
    """
    ends = np.array(planned(RAMP))
    v = np.concatenate([np.linspace(lo, hi, 25)[1:] for lo, hi in zip([0.0, *ends[:-1]], ends, strict=True)])
    steps = np.diff(v, prepend=0.0)
    drift = z / math.sqrt(ends[0])
    walk = np.cumsum(rng.standard_normal((batch, v.size)) * np.sqrt(steps) + drift * steps, axis=1)
    scale = math.sqrt(plan)
    stage1 = slice(0, 24)
    out = {}
    for name, stars in (("one tuning", ends[-1:]), ("mean over stage ends", ends)):
        rho2 = tuning(stars, alpha, one_sided=True)
        crossed = log_e_one_sided(walk * scale, np.broadcast_to(v * plan, walk.shape), rho2) >= -math.log(alpha)
        out[f"{name}, in the 1 % stage"] = crossed[:, stage1].any(axis=1).mean()
        out[f"{name}, at its end"] = crossed[:, 23].mean()
    weak = np.cumsum(rng.standard_normal((batch, v.size)) * np.sqrt(steps), axis=1)
    for name, stars in (("one tuning", ends[-1:]), ("mean over stage ends", ends)):
        rho2 = tuning(stars, alpha, one_sided=True)
        # Planned power: the drift that a fixed one-sided test at alpha finds with power 0.8 at the end.
        s = weak + (2.326348 + 0.841621) * v
        threshold = -math.log(alpha)
        out[f"{name}, power at the end"] = (
            (log_e_one_sided(s, np.broadcast_to(v, s.shape), rho2) >= threshold).any(axis=1).mean()
        )
        out[f"{name}, false"] = (
            (log_e_one_sided(weak, np.broadcast_to(v, s.shape), rho2) >= threshold).any(axis=1).mean()
        )
    return out


TUNING = Study("z = 4.5 at the end of the 1 % stage", strong_early_harm, 10, 50, 104)
TUNING_SMALL = Study("the same, traffic a tenth of the plan", partial(strong_early_harm, plan=0.1), 10, 50, 105)
TUNING_LARGE = Study("the same, traffic ten times the plan", partial(strong_early_harm, plan=10.0), 10, 50, 106)


# -- weights that run the clock backwards --------------------------------------------------------------------------------


def unit_weights(rng: np.random.Generator, *, users: int = 400) -> dict[str, float]:
    """A ratio per request in one stage: every user comes early, then sends more and more requests.

    The weight n_T·n_C/(n_T+n_C) stands still while the ratio gets more precise, so its clock falls; ours grows.
    """
    rows = users * 15
    t = traffic(rng, users, rows, (0.5,), 60, even=True)
    cost = rng.lognormal(sigma=0.5, size=t.rows)
    y = (rng.random(t.rows) < 0.9).astype(float)
    score = stratified_score(path_sums(t, cost, y), (0.5,), latches=stage_ends(t))
    c = score.contrast(running=False)
    n_c, n_t = score.sums.units[:, 0]
    units = n_c * n_t / (n_c + n_t)
    started = np.flatnonzero((score.sums.units[:, 0] >= 30).all(axis=0))
    ours = np.maximum(c.v_plug, c.v_design)[started]
    theirs = (c.v_plug * (units / c.weight) ** 2)[started]
    return {
        "unit weights: peak over end": theirs.max() / theirs[-1],
        "ours: largest fall": 1 - (ours / running(ours)).min(),
        "ours: growth": ours[-1] / ours[0],
    }


WEIGHTS = Study("unit-count weights, cost per success", unit_weights, 40, 500, 107)
