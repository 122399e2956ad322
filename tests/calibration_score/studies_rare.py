"""The rule for proportions of bad events (analysis/judge.py, rare.py): halt by the mixture past the margin at half of the
share of the halt budget, or, with the other half, by the rate ratio on first events when the estimate is past the margin by
one standard error too."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    rho2_of,
    stage_ends,
    traffic,
    warm_up,
)
from studies_harm import EVENT

from abtest.analysis.rare import BATCH_REQUESTS, PAST_MARGIN_Z
from abtest.stats.rate_ratio import DEFAULT_RATIOS, log_e_rate_ratio_path
from abtest.stats.score import stratified_score

MARGIN = 0.01


def first_events(t: Traffic, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return per hour: first events T and C, requests at risk T and C, as sql/first_event.sql counts them."""
    hit = np.flatnonzero(x > 0)
    users, at = np.unique(t.unit[hit], return_index=True)
    hour = np.full(t.users, t.looks)
    hour[users] = t.look[hit[at]]
    arm = t.arm[hit[at]]
    at_risk = t.look <= hour[t.unit]
    events = [np.bincount(hour[users][arm == a], minlength=t.looks).astype(float) for a in (1, 0)]
    risk = [np.bincount(t.look[at_risk & (t.arm == a)], minlength=t.looks).astype(float) for a in (1, 0)]
    return events[0], events[1], risk[0], risk[1]


def batch_starts(t: Traffic, risk: np.ndarray, requests: float) -> np.ndarray:
    """Return (B,) the hour in which each hour's batch began: hours of a stage until `requests` are at risk (rare.py)."""
    stage_of = np.arange(t.looks) // (t.looks // len(t.shares))
    starts = np.zeros(t.looks, dtype=int)
    total = 0.0
    for i in range(1, t.looks):
        total += risk[i - 1]
        if total >= requests or stage_of[i] != stage_of[i - 1]:
            starts[i], total = i, 0.0
        else:
            starts[i] = starts[i - 1]
    return starts


def log_e_first_events(
    t: Traffic, x: np.ndarray, requests: float = BATCH_REQUESTS, *, margin: float = 0.0, ceiling: float = 0.2
) -> np.ndarray:
    """Return (B,) log E on first events at every look, the open batch with its share so far.

    With a margin in points: STATISTICS §4's e-value for small counts, on requests at risk. Given the arms of a batch with
    n_T and n_C requests at risk and q = n_T/n, its expectation is at most
    exp(n q (1-q) (r-1)/(1+q(r-1)) (h_T - h_C - c (1-h_C))), h the mean chances of a first event, c = margin/(1-ceiling):
    at most 1 for h_T <= h_C + margin and h_C <= ceiling. So this one does guarantee the margin.
    """
    table = np.stack(first_events(t, x))
    starts = batch_starts(t, table[2] + table[3], requests)
    total = np.cumsum(table, axis=1)
    e1, e0, r1, r0 = total - (total - table)[:, starts]
    q = r1 / np.maximum(r1 + r0, 1.0)
    known = (q > 0) & (q < 1)
    c = margin / (1 - ceiling)
    closes = np.append(starts[1:] != starts[:-1], False)
    logs = []
    for ratio in DEFAULT_RATIOS:
        scale = 1 + q * (ratio - 1)
        part = e1 * math.log(ratio) - (e1 + e0) * np.log(scale) + (r0 - e0) * np.log1p(-c * (1 - 1 / scale))
        part = np.where(known, part, 0.0)
        done = np.cumsum(np.where(closes, part, 0.0))
        logs.append(part + done - np.where(closes, part, 0.0))
    return np.logaddexp.reduce(logs) - math.log(len(logs))


ALPHAS = (0.01, 0.0025)
"""A guardrail's share of the halt budget: alone, and one of four."""


@dataclass(frozen=True)
class Said:
    """What the parts of the rule say at every look; each half has half of alpha."""

    mixture: dict[float, np.ndarray]
    log_e: np.ndarray
    z: np.ndarray  # (estimate - margin) / its standard error at the margin

    def rare(self, alpha: float, z: float = PAST_MARGIN_Z, log_e: np.ndarray | None = None) -> np.ndarray:
        """The rate ratio's half: rejects, and the estimate is past the margin by z standard errors."""
        return ((self.log_e if log_e is None else log_e) >= -math.log(alpha / 2)) & (self.z > z)

    def halt(self, alpha: float, z: float = PAST_MARGIN_Z, log_e: np.ndarray | None = None) -> np.ndarray:
        return self.mixture[alpha] | self.rare(alpha, z, log_e)


def listen(t: Traffic, x: np.ndarray) -> Said:
    """Return what analysis/judge.py and analysis/rare.py would see at every look."""
    score = stratified_score(path_sums(t, x), t.shares, proportion=True, latches=stage_ends(t))
    c = score.contrast(MARGIN)
    control = np.flatnonzero(t.arm == 0)
    _, seen = np.unique(t.unit[control], return_index=True)
    # The constants are frozen when control has 200 units; without them the mixture is silent.
    frozen_at = t.look[control[np.sort(seen)[199]]] if len(seen) >= 200 else t.looks
    ready = enough(score) & (np.arange(t.looks) >= frozen_at) & (c.v > 0)
    frozen = warm_up(t, x)
    mixture = {a: evidence(c.score, c.v, rho2_of(EVENT, frozen, a / 2, t.shares), a / 2) & ready for a in ALPHAS}
    z = np.where(c.weight > 0, c.score / np.sqrt(np.maximum(c.v, 1e-300)), -np.inf)
    return Said(mixture, log_e_first_events(t, x), z)


def judged(
    rng: np.random.Generator,
    *,
    base: float,
    effect: float,
    share: float | None,
    users: int = 4000,
    rows: int = 20_000,
    more: float = 1.0,
    drift: float = 0.0,
    icc: float = 0.05,
) -> list[str]:
    """Sticky returning users, five requests each, 96 hourly looks; `share` None: the ramp 1 -> 5 -> 20 -> 50 %."""
    shares = RAMP if share is None else (share,)
    t = traffic(rng, users, rows, shares, 96 // len(shares))
    if more != 1.0:  # treatment sends more requests: drop some of control's
        keep = (t.arm == 1) | (rng.random(t.rows) < 1 / more)
        t = Traffic(t.unit[keep], t.look[keep], t.stage[keep], t.arm[keep], t.time[keep], t.users, t.looks, t.shares)
    x = (alike(rng, t, icc) < base + drift * t.time + effect * (t.arm == 1)).astype(float)
    said = listen(t, x)
    points = log_e_first_events(t, x, margin=MARGIN)
    facts = {}
    for a in ALPHAS:
        facts |= {f"halt {a:g}": said.halt(a), f"halt at the last look {a:g}": said.halt(a)[-1]}
        facts |= {f"mixture half {a:g}": said.mixture[a], f"ratio rejects {a:g}": said.log_e >= -math.log(a / 2)}
        facts |= {f"halt, 0 s.e. {a:g}": said.halt(a, 0.0), f"halt, 2 s.e. {a:g}": said.halt(a, 2.0)}
        facts |= {f"halt, points margin {a:g}": said.mixture[a] | (points >= -math.log(a / 2))}
    return happened(**facts)


def _cells() -> dict[str, Study]:
    cells, seed = {}, 300
    for share in (0.1, 0.5):
        for base in (0.005, 0.02, 0.05):
            for name, effect in (("no effect", 0.0), ("half of the margin", MARGIN / 2), ("at the margin", MARGIN)):
                seed += 1
                label = f"{100 * (1 - share):.0f}/{100 * share:.0f}, base {100 * base:g} %, {name}"
                cells[label] = Study(
                    f"rare rule: {label}",
                    partial(judged, base=base, effect=effect, share=share),
                    25,
                    1000 if effect else 2000,
                    seed,
                )
    cells["ramp, base 2 -> 8 %, no effect"] = Study(
        "rare rule: ramp, base 2 -> 8 %, no effect", partial(judged, base=0.02, drift=0.06, effect=0.0, share=None), 25, 2000, 330)  # fmt: skip
    cells["50/50, base 2 %, no effect, 20 % more requests"] = Study(
        "rare rule: 50/50, base 2 %, no effect, treatment sends 20 % more requests",
        partial(judged, base=0.02, effect=0.0, share=0.5, more=1.2), 25, 2000, 331)  # fmt: skip
    cells["50/50, base 2 %, no effect, ICC 0.3"] = Study(
        "rare rule: 50/50, base 2 %, no effect, ICC 0.3", partial(judged, base=0.02, effect=0.0, share=0.5, icc=0.3), 25, 2000, 332)  # fmt: skip
    return cells


RULE = _cells()


def one_look_each(t: Traffic, rows_a_look: int) -> Traffic:
    """Return the traffic with a look every few requests."""
    look = np.arange(t.rows) // rows_a_look
    return Traffic(t.unit, look, t.stage, t.arm, t.time, t.users, int(look[-1]) + 1, t.shares)


def detection(
    rng: np.random.Generator, *, base: float, users: int = 3000, rows: int = 4000, a: float = 0.01
) -> dict[str, float]:
    """Requests until the halt, 90/10, base -> 5 %, sticky users; a look every 10 requests. Never: infinity."""
    t = one_look_each(traffic(rng, users, rows, (0.1,)), 10)
    x = (alike(rng, t, 0.05) < np.where(t.arm == 1, 0.05, base)).astype(float)
    said = listen(t, x)
    points = log_e_first_events(t, x, margin=MARGIN)
    events = first_events(t, x)
    all_of_it = -math.log(a)
    by = {
        "rule": said.halt(a),
        "rule, 0 s.e.": said.halt(a, 0.0),
        "rule, 2 s.e.": said.halt(a, 2.0),
        "mixture half": said.mixture[a],
        "rule, points margin": said.mixture[a] | (points >= -math.log(a / 2)),
        "rate ratio, all of alpha": said.log_e >= all_of_it,
        "rate ratio, all of alpha, configured share": log_e_rate_ratio_path(events[0], events[1], np.full(t.looks, 0.1))
        >= all_of_it,
    }
    for requests in (1, 50):
        log_e = log_e_first_events(t, x, requests)
        by[f"rule, batches of {max(requests, 10)}"] = said.halt(a, log_e=log_e)
        by[f"rate ratio, all of alpha, batches of {max(requests, 10)}"] = log_e >= all_of_it
    return {name: 10.0 * (int(np.argmax(out)) + 1) if out.any() else math.inf for name, out in by.items()}


DETECTION = {
    "0.5 -> 5 %": Study("detection 90/10, 0.5 -> 5 %", partial(detection, base=0.005), 80, 2000, 340),
    "0 -> 5 %": Study("detection 90/10, 0 -> 5 %", partial(detection, base=0.0), 80, 2000, 341),
}


def thin_hours(rng: np.random.Generator, *, an_hour: int, base: float = 0.005) -> dict[str, float]:
    """4,000 requests, base -> 5 %, 90/10, `an_hour` requests an hour, alpha 1 %: with and without merging hours."""
    t = one_look_each(traffic(rng, 3000, 4000, (0.1,)), an_hour)
    x = (alike(rng, t, 0.05) < np.where(t.arm == 1, 0.05, base)).astype(float)
    out = {"hour by hour": log_e_first_events(t, x, 1), "merged to 200": log_e_first_events(t, x)}
    hits = {name: log_e >= -math.log(0.01) for name, log_e in out.items()}
    return {name: float(an_hour) * (int(np.argmax(h)) + 1) if h.any() else math.inf for name, h in hits.items()}


THIN = {
    n: Study(f"detection with {n} requests an hour", partial(thin_hours, an_hour=n), 40, 2000, 350 + n)
    for n in (1, 2, 5, 20, 100)
}


def thin_null(
    rng: np.random.Generator,
    *,
    base: float,
    share: float,
    an_hour: int = 10,
    icc: float = 0.3,
    more: float = 1.0,
    users: int = 600,
    rows: int = 6000,
) -> list[str]:
    """No effect, few requests an hour: false alarms of the rate ratio at 5 %, hour by hour and with hours merged."""
    t = traffic(rng, users, rows, (share,))
    keep = (t.arm == 1) | (rng.random(t.rows) < 1 / more)
    t = Traffic(t.unit[keep], t.look[keep], t.stage[keep], t.arm[keep], t.time[keep], users, t.looks, (share,))
    t = one_look_each(t, an_hour)
    x = (alike(rng, t, icc) < base).astype(float)
    events = first_events(t, x)
    configured = log_e_rate_ratio_path(events[0], events[1], np.full(t.looks, share))
    out = {"hour by hour": log_e_first_events(t, x, 1), "merged to 50": log_e_first_events(t, x, 50)}
    out |= {"merged to 200": log_e_first_events(t, x), "configured share": configured}
    return happened(**{name: log_e >= math.log(20) for name, log_e in out.items()})


THIN_NULL = {
    (base, share, more): Study(
        f"no effect, 10 requests an hour, base {100 * base:g} %, share {100 * share:g} %, {more:g} times the requests, ICC 0.3",
        partial(thin_null, base=base, share=share, more=more), 60, 3000, 360 + i,
    )
    for i, (base, share, more) in enumerate([(0.05, 0.1, 1.0), (0.05, 0.5, 1.0), (0.3, 0.5, 1.0), (0.3, 0.1, 1.0), (0.05, 0.5, 1.2), (0.3, 0.5, 1.2)])
}  # fmt: skip
