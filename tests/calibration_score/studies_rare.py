"""The rule for proportions of bad events (analysis/judge.py): halt by the mixture past the margin at half of the share of
the halt budget, or, with the other half, by the rate ratio on first events when the estimate is past the margin too."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from score_paths import RAMP, Study, Traffic, alike, enough, evidence, happened, path_sums, rho2_of, traffic, warm_up
from studies_harm import EVENT

from abtest.stats.rate_ratio import log_e_rate_ratio_path
from abtest.stats.score import stratified_score

MARGIN = 0.01


def first_events(t: Traffic, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first events in treatment and control, and the at-risk share of requests, per hour (sql/first_event.sql)."""
    hit = np.flatnonzero(x > 0)
    users, at = np.unique(t.unit[hit], return_index=True)
    hour = np.full(t.users, t.looks)
    hour[users] = t.look[hit[at]]
    arm = t.arm[hit[at]]
    events = [np.bincount(hour[users][arm == a], minlength=t.looks).astype(float) for a in (1, 0)]
    at_risk = t.look <= hour[t.unit]
    risk = [np.bincount(t.look[at_risk & (t.arm == a)], minlength=t.looks).astype(float) for a in (1, 0)]
    total = risk[0] + risk[1]
    return events[0], events[1], np.divide(risk[0], total, out=np.zeros(t.looks), where=total > 0)


def rule(t: Traffic, x: np.ndarray, alpha: float) -> dict[str, np.ndarray]:
    """Return (B,) what each half of the rule says at every look."""
    score = stratified_score(path_sums(t, x), t.shares, proportion=True)
    c = score.contrast(MARGIN)
    control = np.flatnonzero(t.arm == 0)
    _, seen = np.unique(t.unit[control], return_index=True)
    # The constants are frozen when control has 200 units; without them the mixture is silent.
    frozen_at = t.look[control[np.sort(seen)[199]]] if len(seen) >= 200 else t.looks
    ready = enough(score) & (np.arange(t.looks) >= frozen_at) & (c.v > 0)
    mixture = evidence(c.score, c.v, rho2_of(EVENT, warm_up(t, x), alpha / 2, t.shares), alpha / 2) & ready
    log_e = log_e_rate_ratio_path(*first_events(t, x))
    rejects = log_e >= -math.log(alpha / 2)
    weight = np.where(c.weight > 0, c.weight, np.nan)
    with np.errstate(invalid="ignore"):
        past = c.score / weight > 0  # the estimate minus the margin
    return {"mixture": mixture, "ratio": rejects, "past": past, "rare": rejects & past, "halt": mixture | (rejects & past)}


def judged(
    rng: np.random.Generator, *, base: float, effect: float, share: float | None, users: int = 4000, rows: int = 20_000,
    more: float = 1.0, drift: float = 0.0, icc: float = 0.05,
) -> list[str]:  # fmt: skip
    """Sticky returning users, five requests each, 96 hourly looks; `share` None: the ramp 1 -> 5 -> 20 -> 50 %."""
    shares = RAMP if share is None else (share,)
    t = traffic(rng, users, rows, shares, 96 // len(shares))
    if more != 1.0:  # treatment sends more requests: drop some of control's
        keep = (t.arm == 1) | (rng.random(t.rows) < 1 / more)
        t = Traffic(t.unit[keep], t.look[keep], t.stage[keep], t.arm[keep], t.time[keep], t.users, t.looks, t.shares)
    x = (alike(rng, t, icc) < base + drift * t.time + effect * (t.arm == 1)).astype(float)
    facts = {}
    for alpha in (0.01, 0.0025):
        said = rule(t, x, alpha)
        facts |= {f"halt {alpha:g}": said["halt"], f"mixture half {alpha:g}": said["mixture"], f"rare half {alpha:g}": said["rare"]}
        facts |= {f"ratio rejects {alpha:g}": said["ratio"], f"halt at the last look {alpha:g}": said["halt"][-1]}
    return happened(**facts)


def _cells() -> dict[str, Study]:
    cells, seed = {}, 300
    for share in (0.1, 0.5):
        for base in (0.005, 0.02, 0.05):
            for name, effect in (("no effect", 0.0), ("half of the margin", MARGIN / 2), ("at the margin", MARGIN)):
                seed += 1
                label = f"{100 * (1 - share):.0f}/{100 * share:.0f}, base {100 * base:g} %, {name}"
                cells[label] = Study(f"rare rule: {label}", partial(judged, base=base, effect=effect, share=share), 60, 3000, seed)
    cells["ramp, base 2 -> 8 %, no effect"] = Study(
        "rare rule: ramp, base 2 -> 8 %, no effect", partial(judged, base=0.02, drift=0.06, effect=0.0, share=None), 60, 3000, 330)  # fmt: skip
    cells["50/50, base 2 %, no effect, 20 % more requests"] = Study(
        "rare rule: 50/50, base 2 %, no effect, treatment sends 20 % more requests",
        partial(judged, base=0.02, effect=0.0, share=0.5, more=1.2), 60, 3000, 331)  # fmt: skip
    cells["50/50, base 2 %, no effect, ICC 0.3"] = Study(
        "rare rule: 50/50, base 2 %, no effect, ICC 0.3", partial(judged, base=0.02, effect=0.0, share=0.5, icc=0.3), 60, 3000, 332)  # fmt: skip
    return cells


RULE = _cells()


def detection(rng: np.random.Generator, *, base: float, users: int = 3000, rows: int = 4000, alpha: float = 0.01) -> dict[str, float]:
    """Requests until the halt, 90/10, base -> 5 %, sticky users; a look every 10 requests. Never: infinity."""
    t = traffic(rng, users, rows, (0.1,), rows // 10)
    t = Traffic(t.unit, np.arange(t.rows) // 10, t.stage, t.arm, t.time, t.users, t.looks, t.shares)
    x = (alike(rng, t, 0.05) < np.where(t.arm == 1, 0.05, base)).astype(float)
    said = rule(t, x, alpha)

    def when(what: np.ndarray) -> float:
        return 10.0 * (int(np.argmax(what)) + 1) if what.any() else math.inf

    whole = log_e_rate_ratio_path(*first_events(t, x)) >= -math.log(alpha)
    return {"rule": when(said["halt"]), "mixture half": when(said["mixture"]), "rare half": when(said["rare"]), "rate ratio with all of alpha": when(whole)}


DETECTION = {
    "0.5 -> 5 %": Study("detection 90/10, 0.5 -> 5 %", partial(detection, base=0.005), 80, 2000, 340),
    "0 -> 5 %": Study("detection 90/10, 0 -> 5 %", partial(detection, base=0.0), 80, 2000, 341),
}
