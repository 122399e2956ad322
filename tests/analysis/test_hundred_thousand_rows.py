"""A hundred thousand rows against plain numpy: every number of the evidence, and the estimates that follow from it.

The oracle here is arrays over rows, another one than the loops of analysis_oracle.py, and at a size at which an engine reads
in several threads, cuts its work into pieces and keeps a state for the next reading.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from analysis_logs import HOUR_US, START_US, Record, at, spec_of
from analysis_store import StoreMaker
from numpy.typing import NDArray
from score_oracle import Units, dense_score

from abtest.analysis.analyze import analyze_evidence
from abtest.analysis.evidence import Evidence
from abtest.analysis.read import read
from abtest.results import MetricResult
from abtest.spec import Experiment
from abtest.store.moments import LOOK

ROWS, USERS = 100_000, 9_000
STARTS, SHARES = (0.0, 20.5, 40.0), (0.1, 0.25, 0.5)
END = 60.0
RARE = {"guardrail": {"margin": {"points": 0.02}}}
METRICS: list[Record] = [
    {"name": "refusal", "kind": "proportion", "event": "refused", "better": "lower", **RARE},
    {"name": "call_error", "kind": "proportion", "event": "is_error", "better": "lower", "per": "call", **RARE},
    {"name": "unit_error", "kind": "proportion", "event": "is_error", "better": "lower", "per": "unit", **RARE},
    {"name": "format", "kind": "proportion", "event": "format_ok", "better": "higher", **RARE},
    {"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower", "guardrail": {"margin": {"relative": 0.1}}},
    {"name": "call_cost", "kind": "mean", "value": "cost_usd", "better": "lower", "per": "call"},
    {"name": "unit_cost", "kind": "mean", "value": "cost_usd", "better": "lower", "per": "unit"},
    {"name": "cost_per_success", "kind": "ratio", "numerator": "cost_usd",
     "denominator": "CASE WHEN NOT is_error AND format_ok THEN 1 ELSE 0 END", "better": "lower"},
    {"name": "verbosity", "kind": "ratio", "numerator": "output_tokens", "denominator": "input_tokens", "better": "lower",
     "per": "call"},
    {"name": "requests", "kind": "count", "better": "lower"},
    {"name": "errors", "kind": "count", "event": "is_error", "better": "lower", "per": "call"},
    {"name": "latency_p95", "kind": "quantile", "value": "latency_ms", "q": 0.95, "better": "lower",
     "guardrail": {"margin": {"relative": 0.2}}, "frozen": {"threshold": 3000.0}},
    {"name": "length_p20", "kind": "quantile", "value": "response_chars", "q": 0.2, "better": "higher", "per": "call",
     "guardrail": {"margin": {"absolute": 7.0}}, "frozen": {"threshold": 31.0}},
]  # fmt: skip
SPEC = spec_of(*METRICS, allocation=[{"at": at(t), "share": q} for t, q in zip(STARTS, SHARES, strict=True)])
Ints = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass
class Log:
    """Columns of the log; NaN (or -1 for a boolean) where a row does not say."""

    user: Ints
    ts: Ints
    request: Ints
    arm: Ints
    refused: Ints
    is_error: Ints
    format_ok: Ints
    latency: Reals
    cost: Reals
    tokens_in: Reals
    tokens_out: Reals
    chars: Reals

    def records(self) -> list[Record]:
        """Return the rows as logged: what a row does not say is not written."""
        flags = {"refused": self.refused, "is_error": self.is_error, "format_ok": self.format_ok}
        reals = {"latency_ms": self.latency, "cost_usd": self.cost}
        counts = {"input_tokens": self.tokens_in, "output_tokens": self.tokens_out, "response_chars": self.chars}
        columns = {n: [None if v < 0 else v == 1 for v in c.tolist()] for n, c in flags.items()}
        columns |= {n: [None if v != v else v for v in c.tolist()] for n, c in reals.items()}
        columns |= {n: [None if v != v else int(v) for v in c.tolist()] for n, c in counts.items()}
        heads = zip(self.user.tolist(), self.ts.tolist(), self.request.tolist(), self.arm.tolist(), strict=True)
        return [
            {"interaction_id": f"c{n:06d}", "ts": moment(t), "model": "m", "experiment_id": "e", "unit_id": f"u{u}",
             "variant": "AB"[a], "request_id": f"r{r}", **{k: v for k, c in columns.items() if (v := c[n]) is not None}}
            for n, (u, t, r, a) in enumerate(heads)
        ]  # fmt: skip


def moment(ts: int) -> str:
    """Return RFC 3339 of a moment within the first days of the log."""
    seconds, us = divmod(ts - START_US, 1_000_000)
    days, rest = divmod(seconds, 86_400)
    return f"2026-11-{1 + days:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.{us:06d}Z"


def make_log(seed: int) -> Log:
    """Return users of very different activity who come back in all stages, tries that fail, and a few leaks between arms."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0, 1, USERS)
    again = rng.random(ROWS) < 0.15  # this row is a further try of the request before it
    again[0] = False
    request = np.cumsum(~again) - 1
    owner = rng.choice(USERS, size=request[-1] + 1, p=activity / activity.sum())
    begun = rng.uniform(0, END - 4, request[-1] + 1)
    user = owner[request]
    first = np.flatnonzero(~again)[request]
    late = (np.arange(ROWS) - first) * rng.choice([0.001, 0.3, 1.2], ROWS)
    ts = START_US + np.rint((begun[request] + np.minimum(late, 3.9)) * HOUR_US).astype(np.int64)
    assert len(np.unique(ts)) > ROWS - 50  # ties are decided by the id
    hash_of = rng.random(USERS)
    share = np.array(SHARES)[stage_of(ts)]
    arm = (np.where(rng.random(ROWS) < 0.006, rng.random(ROWS), hash_of[user]) < share).astype(np.int64)
    own = rng.normal(0, 0.4, USERS)[user]

    def unknown(values: Any, share: float, blank: float) -> Any:
        return np.where(rng.random(ROWS) < share, blank, values)

    return Log(
        user, ts, request, arm,
        refused=unknown(rng.random(ROWS) < 0.01 + 0.02 * arm, 0.03, -1).astype(np.int64),
        is_error=unknown(rng.random(ROWS) < 0.02, 0.0, -1).astype(np.int64),
        format_ok=unknown(rng.random(ROWS) < 0.97, 0.02, -1).astype(np.int64),
        latency=unknown(np.round(np.exp(6.5 + own + rng.normal(0, 0.7, ROWS)), 3), 0.03, np.nan),
        cost=unknown(np.exp(-7 + own + rng.normal(0, 1, ROWS)), 0.02, np.nan),
        tokens_in=unknown(rng.integers(0, 900, ROWS), 0.02, np.nan),
        tokens_out=unknown(rng.integers(0, 900, ROWS), 0.02, np.nan),
        chars=unknown(rng.integers(0, 99, ROWS), 0.02, np.nan),
    )  # fmt: skip


def stage_of(ts: Ints) -> Ints:
    """Return the stage of moments."""
    starts = START_US + np.rint(np.array(STARTS[1:]) * HOUR_US).astype(np.int64)
    return np.searchsorted(starts, ts, side="right")


class Truth:
    """The evidence of a log, by arrays over rows."""

    def __init__(self, log: Log) -> None:
        self.log = log
        _, self.group = np.unique(np.stack([log.user, log.arm, log.request]), axis=1, return_inverse=True)
        self.group = self.group.reshape(-1)
        order = np.lexsort((np.arange(ROWS), log.ts))
        last = np.zeros(self.group.max() + 1, dtype=np.int64)
        last[self.group[order]] = order  # the latest row of a group is written last
        self.head = np.zeros(ROWS, dtype=bool)
        self.head[last] = True
        self.moment = log.ts[last][self.group]  # a request belongs where its last try does
        self.stage, self.hour = stage_of(self.moment), self.moment // HOUR_US
        both = np.zeros((2, USERS, len(STARTS)), dtype=bool)
        both[log.arm, log.user, self.stage] = True
        self.contaminated = both.all(axis=0)
        self.clean = ~self.contaminated[log.user, self.stage]

    @cached_property
    def rows(self) -> list[tuple[Ints, Ints]]:
        """Return numerator and denominator of every row, as whole numbers, for every metric."""
        log, head = self.log, self.head
        micro, nano = 10**6, 10**9

        def flag(values: Ints, which: NDArray[np.bool_]) -> tuple[Ints, Ints]:
            return ((values == 1) & which).astype(np.int64), ((values >= 0) & which).astype(np.int64)

        def whole(values: Reals, which: NDArray[np.bool_], scale: int) -> Ints:
            return np.where(which, np.rint(np.nan_to_num(values) * scale), 0).astype(np.int64)

        every = np.ones(ROWS, dtype=bool)
        latency, cost = ~np.isnan(log.latency), ~np.isnan(log.cost)
        success = ((log.is_error == 0) & (log.format_ok == 1)).astype(float)
        tokens = ~np.isnan(log.tokens_in) & ~np.isnan(log.tokens_out)
        slow = np.array([3000.0, 3000.0 * 1.2])[log.arm]
        long = np.array([31.0, 31.0 - 7.0])[log.arm]
        ones = head.astype(np.int64)
        return [
            flag(log.refused, head), flag(log.is_error, every), flag(log.is_error, head), flag(log.format_ok, head),
            (whole(log.latency, latency & head, micro), (latency & head).astype(np.int64)),
            (whole(log.cost, cost, nano), cost.astype(np.int64)),
            (whole(log.cost, cost & head, nano), (cost & head).astype(np.int64)),
            (whole(log.cost, cost & head, nano), whole(success, cost & head, nano)),
            (whole(log.tokens_out, tokens, micro), whole(log.tokens_in, tokens, micro)),
            (ones, ones), (flag(log.is_error, every)[0], np.ones(ROWS, dtype=np.int64)),
            ((np.nan_to_num(log.latency) > slow)[:].astype(np.int64) * (latency & head), (latency & head).astype(np.int64)),
            ((np.nan_to_num(log.chars) > long).astype(np.int64) * ~np.isnan(log.chars), (~np.isnan(log.chars)).astype(np.int64)),
        ]  # fmt: skip

    def units(self, j: int, which: NDArray[np.bool_]) -> dict[str, Ints]:
        """Return one entry a unit, arm and stage over some of the clean rows: user, arm, stage, x, y, rows, requests."""
        log, take = self.log, np.flatnonzero(which & self.clean)
        key = (log.user[take] * 2 + log.arm[take]) * len(STARTS) + self.stage[take]
        keys, index = np.unique(key, return_inverse=True)
        out = {n: np.zeros(len(keys), dtype=np.int64) for n in ("x", "y", "calls", "requests")}
        for name, values in (("x", self.rows[j][0]), ("y", self.rows[j][1]), ("calls", 1), ("requests", self.head)):
            np.add.at(out[name], index, values[take] if isinstance(values, np.ndarray) else values)
        spec = METRICS[j]
        if spec.get("per") == "unit" or spec["kind"] == "count":
            out["y"] = np.minimum(out["y"], 1)
            if spec["kind"] == "proportion":
                out["x"] = np.minimum(out["x"], 1)
        arm_stage, stages = keys // len(STARTS), keys % len(STARTS)
        return {**out, "user": arm_stage // 2, "arm": arm_stage % 2, "stage": stages}

    def cells(self, j: int, which: NDArray[np.bool_]) -> dict[Any, tuple[int, ...]]:
        """Return (arm, stage) -> units, requests, calls, x, y."""
        units = self.units(j, which)
        out = {}
        for arm in (0, 1):
            for stage in range(len(STARTS)):
                here = (units["arm"] == arm) & (units["stage"] == stage)
                if here.any():
                    sums = [int(units[n][here].sum()) for n in ("requests", "calls", "x", "y")]
                    out["AB"[arm], stage] = (int(here.sum()), *sums)
        return out

    def pairs(self, j: int, which: NDArray[np.bool_]) -> dict[Any, tuple[int, ...]]:
        """Return pair of cells -> xx, xy, yx, yy; in Python's integers, for products pass 2^63."""
        units = self.units(j, which)
        cells: dict[tuple[int, int], tuple[Ints, Any, Any]] = {}
        for arm in (0, 1):
            for stage in range(len(STARTS)):
                here = (units["arm"] == arm) & (units["stage"] == stage)
                cells[arm, stage] = (
                    units["user"][here],
                    units["x"][here].astype(object),
                    units["y"][here].astype(object),
                )
        out = {}
        for p, (users_p, xp, yp) in cells.items():
            for q, (users_q, xq, yq) in cells.items():
                if p == q or p[1] < q[1]:
                    _, a, b = np.intersect1d(users_p, users_q, assume_unique=True, return_indices=True)
                    sums = [int((v[a] * w[b]).sum()) for v in (xp, yp) for w in (xq, yq)]
                    out["AB"[p[0]], p[1], "AB"[q[0]], q[1]] = tuple(sums)
        return {k: v for k, v in out.items() if any(v)}

    def first_events(self, j: int) -> tuple[Counter[Any], Counter[Any]]:
        """Return units by (arm, stage, hour) of their first event, and what units still without one sent."""
        x, y = self.rows[j]
        bad = (y > 0) & (x == 0) if METRICS[j]["better"] == "higher" else x > 0
        order = np.lexsort((self.moment,))
        first: dict[int, tuple[Any, Any]] = {}
        rows = [
            (u, ("AB"[a], k, h), (h, k), bool(b), n)
            for u, a, k, h, b, n in zip(*(c[order].tolist() for c in (self.log.user, self.log.arm, self.stage, self.hour,
                                                                     bad & self.clean, np.where(self.clean, y, 0))), strict=True)
        ]  # fmt: skip
        for user, cell, when, event, _ in rows:
            if event and user not in first:
                first[user] = (cell, when)
        events, risk = Counter(cell for cell, _ in first.values()), Counter[Any]()
        for user, cell, when, _, n in rows:
            if n and (user not in first or when <= first[user][1]):
                risk[cell] += n
        return events, risk

    def histogram(self, j: int) -> Counter[Any]:
        """Return values by (arm, stage, bucket)."""
        values = self.log.latency if j == 11 else self.log.chars
        which = np.flatnonzero(self.clean & (self.rows[j][1] > 0))
        return Counter(
            ("AB"[a], k, math.floor(math.log(v) * 200) if v > 0 else -1_000_000)
            for a, k, v in zip(*(c[which].tolist() for c in (self.log.arm, self.stage, values)), strict=True)
        )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the evidence (from scratch, and read again) and the truth."""
    maker = StoreMaker(tmp_path_factory.mktemp("large"))
    log = make_log(1)
    store = maker(log.records())
    experiment = Experiment.from_dict(SPEC)
    found = read(store, experiment, series=True)
    again = read(store, experiment)
    maker.close()
    return found, again, Truth(log)


def looks(ev: Evidence, truth: Truth) -> list[tuple[Evidence, int, NDArray[np.bool_]]]:
    """Return what to compare: every stage end, and some points of the series, with the rows that they have seen."""
    assert ev.growth
    grown, hours = ev.growth.evidence, ev.growth.grid_us // HOUR_US
    point = truth.stage * LOOK + truth.hour // hours
    n = len(grown.looks)
    some = [grown.looks[i] for i in (0, n // 3, n - 1)]
    return [(ev, k, truth.stage <= k) for k in ev.looks] + [(grown, look, point <= look) for look in some]


def gained(table: Any, look: int, key: tuple[str, ...], columns: list[str]) -> dict[Any, tuple[int, ...]]:
    out: dict[Any, tuple[int, ...]] = {}
    for row in table:
        if row["look"] <= look:
            k = tuple(row[c] for c in key)
            out[k] = tuple(s + row[c] for s, c in zip(out.get(k, (0,) * len(columns)), columns, strict=True))
    return {k: v for k, v in out.items() if any(v)}


@pytest.mark.parametrize("j", range(len(METRICS)), ids=[m["name"] for m in METRICS])
def test_sums_and_products(both: Any, j: int) -> None:
    ev, _, truth = both
    assert ev.looks == (0, 1, 2)
    for each, look, seen in looks(ev, truth):
        columns = ["units", "requests", "calls", f"x{j}", f"y{j}"]
        assert gained(each.cells, look, ("arm", "stage"), columns) == truth.cells(j, seen)
        columns = [f"{c}{j}" for c in ("xx", "xy", "yx", "yy")]
        assert gained(each.pairs, look, ("arm_a", "stage_a", "arm_b", "stage_b"), columns) == truth.pairs(j, seen)


@pytest.mark.parametrize("j", [0, 1, 2, 3])
def test_first_events(both: Any, j: int) -> None:
    ev, _, truth = both
    events, risk = truth.first_events(j)
    cells = {(r["arm"], r["stage"], r["bucket"]): r for r in ev.first_events}
    assert {k: r[f"event{j}"] for k, r in cells.items() if r[f"event{j}"]} == events
    assert {k: r[f"risk{j}"] for k, r in cells.items() if r[f"risk{j}"]} == risk
    assert len(events) > 100


@pytest.mark.parametrize("j", [11, 12])
def test_histograms(both: Any, j: int) -> None:
    ev, _, truth = both
    assert {(r["arm"], r["stage"], r["value_bucket"]): r["n"] for r in ev.histograms[j]} == truth.histogram(j)


def test_who_was_there(both: Any) -> None:
    ev, _, truth = both
    log, clean = truth.log, truth.clean
    assert ev.population == {
        "calls": ROWS, "no_unit": 0, "no_arm": 0, "other_arm": 0, "not_randomised": 0,
        "first_us": int(log.ts.min()), "last_us": int(log.ts.max()),
    }  # fmt: skip
    for a, arm in enumerate("AB"):
        assert ev.units_of(arm) == len(np.unique(log.user[clean & (log.arm == a)]))
        seen = next(r for r in ev.arms if r["arm"] == arm)
        mine = log.arm == a
        assert (seen["units"], seen["interactions"]) == (len(np.unique(log.user[mine])), mine.sum())
    stages = {r["stage"]: (r["units"], r["contaminated"]) for r in ev.contamination}
    assert stages == {
        k: (len(np.unique(log.user[truth.stage == k])), truth.contaminated[:, k].sum()) for k in range(len(STARTS))
    }
    first = np.full(USERS, 99)
    np.minimum.at(first, log.user, truth.stage)
    for row in ev.assignment:
        here = clean & (truth.stage == row["stage"]) & (log.arm == "AB".index(row["arm"]))
        users = np.unique(log.user[here])
        new = int((first[users] == row["stage"]).sum())
        assert (row["new_units"], row["returning_units"]) == (new, len(users) - new)


def test_the_log_is_a_hard_one(both: Any) -> None:
    """It has what the tests above are about."""
    _, _, truth = both
    assert truth.contaminated.sum() > 100
    assert (~truth.head).sum() > 10_000
    moved = stage_of(truth.log.ts) != truth.stage
    assert moved.sum() > 100  # tries in another stage than their request
    later = [np.unique(truth.log.user[truth.clean & (truth.stage == k)]) for k in range(len(STARTS))]
    assert len(np.intersect1d(later[0], later[2])) > 1000


@pytest.fixture(scope="module")
def results(both: Any) -> dict[str, MetricResult]:
    return {r.metric: r for r in analyze_evidence(both[0]).metrics}


@pytest.mark.parametrize("j", range(len(METRICS)), ids=[m["name"] for m in METRICS])
def test_estimates(both: Any, results: dict[str, MetricResult], j: int) -> None:
    """Estimate and standard error from units in extended precision; the variance of an earlier stage end holds."""
    ev, _, truth = both
    spec, found = METRICS[j], results[METRICS[j]["name"]]
    measure = ev.scan.measures[j]
    x_scale = 1 if measure.event or measure.quantile else measure.scale
    answers = []
    for k in range(len(STARTS)):
        units = truth.units(j, truth.stage <= k)
        x, y = units["x"] / np.longdouble(x_scale), units["y"] / np.longdouble(measure.denominator_scale)
        rows = Units(units["arm"], units["stage"], units["user"], x, y, len(STARTS))
        proportion = spec["kind"] in ("proportion", "quantile")
        answers.append(dense_score(rows, np.array(SHARES), better=spec["better"], proportion=proportion))
    sign = 1 if spec["better"] == "lower" else -1
    estimate = sign * answers[-1].score / answers[-1].weight
    std_error = max(a.v for a in answers) ** 0.5 / answers[-1].weight
    assert found.status == "ok"
    if spec["kind"] == "quantile":
        shown = (found.details["exceedance_estimate"], found.details["exceedance_std_error"])
    else:
        shown = (found.estimate, found.std_error)
    assert shown == pytest.approx((estimate, std_error), rel=1e-9)
    assert (found.n_control, found.n_treatment) == (ev.units_of("A"), ev.units_of("B"))
    last = found.series[-1]
    assert (last.estimate, last.n_control, last.n_treatment) == (shown[0], found.n_control, found.n_treatment)
    assert 30 < len(found.series) <= 72


def test_reading_again_says_the_same(both: Any) -> None:
    """The second reading may build on what the first one kept."""
    ev, again, _ = both
    assert again.sha256() == ev.sha256()
    assert again.frozen == ev.frozen
