"""The rule for proportions of bad events (analysis/judge.py): halt by the mixture past the margin at half of the share of
the halt budget, or, with the other half, by the rate ratio on first events when the estimate is past the margin too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from score_paths import RAMP, Study, Traffic, alike, enough, evidence, happened, path_sums, rho2_of, traffic, warm_up
from studies_harm import EVENT

from abtest.stats.rate_ratio import DEFAULT_RATIOS, log_e_rate_ratio_path
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


ALPHAS = (0.01, 0.0025)
"""A guardrail's share of the halt budget: alone, and one of four."""


@dataclass(frozen=True)
class Said:
    """What the parts of the rule say at every look."""

    mixture: dict[float, np.ndarray]
    log_e: np.ndarray
    z: np.ndarray  # (estimate - margin) / its standard error at the margin

    def rejects(self, alpha: float) -> np.ndarray:
        return self.log_e >= -math.log(alpha)

    def rare(self, alpha: float, z: float = 0.0) -> np.ndarray:
        """The rate ratio's half: rejects, and the estimate is past the margin (by z standard errors)."""
        return self.rejects(alpha / 2) & (self.z > z)

    def halt(self, alpha: float, z: float = 0.0) -> np.ndarray:
        return self.mixture[alpha] | self.rare(alpha, z)


def listen(t: Traffic, x: np.ndarray) -> Said:
    """Return what analysis/judge.py would see at every look."""
    score = stratified_score(path_sums(t, x), t.shares, proportion=True)
    c = score.contrast(MARGIN)
    control = np.flatnonzero(t.arm == 0)
    _, seen = np.unique(t.unit[control], return_index=True)
    # The constants are frozen when control has 200 units; without them the mixture is silent.
    frozen_at = t.look[control[np.sort(seen)[199]]] if len(seen) >= 200 else t.looks
    ready = enough(score) & (np.arange(t.looks) >= frozen_at) & (c.v > 0)
    frozen = warm_up(t, x)
    mixture = {a: evidence(c.score, c.v, rho2_of(EVENT, frozen, a / 2, t.shares), a / 2) & ready for a in ALPHAS}
    log_e = log_e_rate_ratio_path(*first_events(t, x))
    z = np.where(c.weight > 0, c.score / np.sqrt(np.maximum(c.v, 1e-300)), -np.inf)
    return Said(mixture, log_e, z)


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
    said = listen(t, x)
    facts = {}
    for a in ALPHAS:
        facts |= {f"halt {a:g}": said.halt(a), f"mixture half {a:g}": said.mixture[a], f"rare half {a:g}": said.rare(a)}
        facts |= {f"ratio rejects {a:g}": said.rejects(a / 2), f"halt at the last look {a:g}": said.halt(a)[-1]}
        facts |= {f"halt if 1 s.e. past {a:g}": said.halt(a, 1.0), f"halt if 2 s.e. past {a:g}": said.halt(a, 2.0)}
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


def merged(t: Traffic, x: np.ndarray, looks: int) -> np.ndarray:
    """Return log E where `looks` consecutive looks are one batch with one at-risk share (the last one so far)."""
    hit = np.flatnonzero(x > 0)
    users, at = np.unique(t.unit[hit], return_index=True)
    first = np.full(t.users, t.rows)
    first[users] = hit[at]
    at_risk = np.arange(t.rows) <= first[t.unit]
    event = np.zeros(t.rows, dtype=bool)
    event[hit[at]] = True
    pad = -t.looks % looks

    def within(rows: np.ndarray) -> np.ndarray:
        counts = np.pad(np.bincount(t.look[rows], minlength=t.looks), (0, pad)).reshape(-1, looks)
        return np.cumsum(counts, axis=1).astype(float)

    e1, e0, r1, r0 = (within(what & (t.arm == a)) for what, a in ((event, 1), (event, 0), (at_risk, 1), (at_risk, 0)))
    q = r1 / np.maximum(r1 + r0, 1.0)
    logs = []
    for ratio in DEFAULT_RATIOS:
        part = e1 * math.log(ratio) - (e1 + e0) * np.log1p(q * (ratio - 1))
        part = np.where((q > 0) & (q < 1), part, 0.0)
        done = np.concatenate([[0.0], np.cumsum(part[:, -1])[:-1]])
        logs.append((done[:, None] + part).ravel()[: t.looks])
    return np.logaddexp.reduce(logs) - math.log(len(logs))


def detection(
    rng: np.random.Generator, *, base: float, users: int = 3000, rows: int = 4000, a: float = 0.01
) -> dict[str, float]:
    """Requests until the halt, 90/10, base -> 5 %, sticky users; a look every 10 requests. Never: infinity."""
    t = traffic(rng, users, rows, (0.1,), rows // 10)
    t = Traffic(t.unit, np.arange(t.rows) // 10, t.stage, t.arm, t.time, t.users, t.looks, t.shares)
    x = (alike(rng, t, 0.05) < np.where(t.arm == 1, 0.05, base)).astype(float)
    said = listen(t, x)

    def when(what: np.ndarray) -> float:
        return 10.0 * (int(np.argmax(what)) + 1) if what.any() else math.inf

    events = first_events(t, x)
    ratio = {
        "at-risk share, batches of 10": said.log_e,
        "at-risk share, batches of 50": merged(t, x, 5),
        "at-risk share, batches of 200": merged(t, x, 20),
        "configured share": log_e_rate_ratio_path(events[0], events[1], np.full(t.looks, 0.1)),
    }
    by = {
        "rule": said.halt(a),
        "rule if 1 s.e. past": said.halt(a, 1.0),
        "rule if 2 s.e. past": said.halt(a, 2.0),
        "mixture half": said.mixture[a],
    }
    for name, log_e in ratio.items():
        by[f"rate ratio, all of alpha, {name}"] = log_e >= -math.log(a)
        by[f"rule, {name}"] = ((log_e >= -math.log(a / 2)) & (said.z > 0)) | said.mixture[a]
    return {name: when(what) for name, what in by.items()}


DETECTION = {
    "0.5 -> 5 %": Study("detection 90/10, 0.5 -> 5 %", partial(detection, base=0.005), 80, 2000, 340),
    "0 -> 5 %": Study("detection 90/10, 0 -> 5 %", partial(detection, base=0.0), 80, 2000, 341),
}


def thin_hours(rng: np.random.Generator, *, an_hour: int, base: float = 0.005) -> dict[str, float]:
    """4,000 requests, base -> 5 %, 90/10, `an_hour` requests an hour: does the rate ratio halt within them?"""
    rows = 4000
    t = traffic(rng, 3000, rows, (0.1,), rows // an_hour)
    t = Traffic(t.unit, np.arange(t.rows) // an_hour, t.stage, t.arm, t.time, t.users, t.looks, t.shares)
    x = (alike(rng, t, 0.05) < np.where(t.arm == 1, 0.05, base)).astype(float)
    log_e = log_e_rate_ratio_path(*first_events(t, x)) >= -math.log(0.01)
    return {"requests": float(an_hour) * (int(np.argmax(log_e)) + 1) if log_e.any() else math.inf}


THIN = {
    n: Study(f"detection with {n} requests an hour", partial(thin_hours, an_hour=n), 60, 2000, 350 + n)
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
    t = traffic(rng, users, rows, (share,), 1)
    keep = (t.arm == 1) | (rng.random(t.rows) < 1 / more)
    kept = int(keep.sum())
    look = np.arange(kept) // an_hour
    t = Traffic(t.unit[keep], look, t.stage[keep], t.arm[keep], t.time[keep], users, int(look[-1]) + 1, (share,))
    x = (alike(rng, t, icc) < base).astype(float)
    events = first_events(t, x)
    level = math.log(20)
    return happened(**{
        "hour by hour": log_e_rate_ratio_path(*events) >= level,
        "merged to 50": merged(t, x, 50 // an_hour) >= level,
        "merged to 200": merged(t, x, 200 // an_hour) >= level,
        "configured share": log_e_rate_ratio_path(events[0], events[1], np.full(t.looks, share)) >= level,
    })  # fmt: skip


THIN_NULL = {
    (base, share, more): Study(
        f"no effect, 10 requests an hour, base {100 * base:g} %, share {100 * share:g} %, {more:g} times the requests, ICC 0.3",
        partial(thin_null, base=base, share=share, more=more), 60, 3000, 360 + i,
    )
    for i, (base, share, more) in enumerate([(0.05, 0.1, 1.0), (0.05, 0.5, 1.0), (0.3, 0.5, 1.0), (0.3, 0.1, 1.0), (0.05, 0.5, 1.2), (0.3, 0.5, 1.2)])
}  # fmt: skip
