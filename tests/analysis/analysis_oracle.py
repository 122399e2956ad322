"""A second opinion on the evidence: plain loops over the records, no SQL, written from the rules and not from the queries.

The rules (DESIGN §3, FORMATS "Late scores", the docstrings of metrics):

* A call counts when it was shown, is a generation, lies inside start..as_of, and belongs to the experiment: by its own
  experiment_id, or because its unit was assigned at that moment.
* Its arm is its own variant when that belongs to the experiment, else what its unit was assigned last.
* One call stands for a request: the last or the first attempt of one unit in one arm ("sum" adds the numbers of all).
  The whole request belongs to the hour and stage of that call, and was randomised only when all of its calls were.
* A unit seen in two of the spec's arms within a stage is contaminated and left out of that stage.
* NULL means that the row cannot tell: it is in neither numerator nor denominator.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from analysis_logs import HOUR_US, Record, us

Cell = tuple[str, int]
GENERATION = {None, "chat", "text_completion", "generate_content"}
UNRANDOM = {"default", "error", "stale", "disabled"}  # as OTel writes them; OpenFeature SDKs use capitals
MANIFEST = (
    "model",
    "prompt_name",
    "prompt_version",
    "prompt_sha256",
    "embedding_model_version",
    "index_id",
    "ruleset_version",
)


# -- expressions in Python, with three-valued logic ----------------------------------------------------------------


def _and(a: bool | None, b: bool | None) -> bool | None:
    return False if a is False or b is False else None if a is None or b is None else True


def _or(a: bool | None, b: bool | None) -> bool | None:
    return True if a is True or b is True else None if a is None or b is None else False


def _not(a: bool | None) -> bool | None:
    return None if a is None else not a


def _lift(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: None if any(a is None for a in args) else f(*args)


_gt, _eq, _sub, _plus, _among = (
    _lift(lambda a, b: a > b), _lift(lambda a, b: a == b), _lift(lambda a, b: a - b), _lift(lambda a, b: a + b), _lift(lambda a, b: a in b),
)  # fmt: skip

FUNCTIONS: dict[str, Callable[[Record], Any]] = {
    "refused": lambda r: r.get("refused"),
    "latency_ms > 2000 AND NOT refused": lambda r: _and(_gt(r.get("latency_ms"), 2000), _not(r.get("refused"))),
    "format_ok": lambda r: r.get("format_ok"),
    "is_error": lambda r: bool(r.get("is_error")),
    "attributes ->> 'tier' = 'pro' OR refused IS NULL": lambda r: _or(
        _eq((r.get("attributes") or {}).get("tier"), "pro"), r.get("refused") is None
    ),
    "latency_ms": lambda r: r.get("latency_ms"),
    "latency_ms + 1000000000": lambda r: _plus(r.get("latency_ms"), 1000000000),
    "cost_usd": lambda r: r.get("cost_usd"),
    "COALESCE(output_tokens, 0) - reasoning_tokens": lambda r: _sub(
        r.get("output_tokens") or 0, r.get("reasoning_tokens")
    ),
    "CASE WHEN NOT is_error AND format_ok THEN 1 ELSE 0 END": lambda r: (
        1 if _and(not r.get("is_error"), r.get("format_ok")) is True else 0
    ),
    "output_tokens": lambda r: r.get("output_tokens"),
    "input_tokens": lambda r: r.get("input_tokens"),
    "finish_reason = 'length'": lambda r: _eq(r.get("finish_reason"), "length"),
    "response_chars": lambda r: r.get("response_chars"),
    "TRUE": lambda r: True,
    "surface = 'support'": lambda r: _eq(r.get("surface"), "support"),
    "environment IN ('prod', 'eu') OR turn > 1": lambda r: _or(
        _among(r.get("environment"), ("prod", "eu")), r.get("turn", 1) > 1
    ),
}


def fixed(value: float, scale: int) -> int:
    """Round to a multiple of 1/scale, ties to even."""
    return value * scale if isinstance(value, int) else round(value * scale)


def scale_of(metric: Record) -> int:
    texts = [str(metric.get(k, "")) for k in ("value", "numerator", "denominator")]
    return 10**9 if any("cost_usd" in t for t in texts) else 10**6


# -- the population --------------------------------------------------------------------------------------------------


@dataclass
class Call:
    record: Record
    unit: str | None
    arm: str | None
    ts: int
    stage: int
    hour: int
    unrandom: bool
    head: bool = False
    x: dict[int, int] = field(default_factory=dict)
    y: dict[int, int] = field(default_factory=dict)
    v: dict[int, float] = field(default_factory=dict)

    @property
    def cell(self) -> tuple[str | None, str | None, int]:
        return self.unit, self.arm, self.stage


class Oracle:
    """The evidence of a spec over records, as of a moment."""

    def __init__(self, spec: Record, records: Iterable[Record], as_of: int) -> None:
        self.spec, self.metrics = spec, spec["metrics"]
        self.grid_hours: int | None = None
        self.arms = [spec["control"], *spec["treatments"]]
        self.allocation = [(us(a["at"]), a["share"]) for a in spec.get("allocation", [])]
        begun = [row for row in self.allocation if row[0] <= as_of] or self.allocation[:1]
        self.starts = [t for t, _ in begun] or [us(spec["start"]) if "start" in spec else 0]
        self.shares: list[float | None] = [q for _, q in begun] or [None]
        self.as_of = min(as_of, us(spec["end"])) if "end" in spec else as_of
        self.begin = max(self.starts[0], us(spec["start"]) if "start" in spec else 0)
        self.how = spec.get("population", {}).get("per_request", "last")
        by_type: dict[str, list[Record]] = defaultdict(list)
        for r in records:
            by_type[r.get("type", "interaction")].append(r)
        self.interactions = by_type["interaction"]
        self._assigned(by_type["assignment"])
        self.scores = self._scores(by_type["score"])
        self.calls = [c for r in self.interactions if (c := self._call(r)) is not None]
        self._requests()
        self._measure()
        self.clean = self._clean()

    # who

    def _unit(self, r: Record) -> str | None:
        unit = self.spec.get("unit", "user")
        if unit == "request":
            return r.get("request_id") or r["interaction_id"]
        return r.get("unit_id" if unit == "user" else "session_id")

    def _assigned(self, records: list[Record]) -> None:
        self.assignments: dict[str, list[tuple[int, str, str | None]]] = defaultdict(list)
        for r in records:
            if r["experiment_id"] == self.spec["id"]:
                self.assignments[r["unit_id"]].append((us(r["ts"]), r["variant"], r.get("reason")))

    def _assignment(self, unit: str | None, ts: int) -> tuple[str | None, str | None]:
        before = [a for a in self.assignments.get(unit or "", []) if a[0] <= ts]
        if not before:
            return None, None
        _, variant, reason = max(before, key=lambda a: (a[0], a[1]))
        return variant, reason

    def _call(self, r: Record) -> Call | None:
        ts = us(r["ts"])
        if not r.get("exposed", True) or r.get("operation") not in GENERATION or not self.begin <= ts <= self.as_of:
            return None
        where = self.spec.get("population", {}).get("where")
        if where and FUNCTIONS[where](r) is not True:
            return None
        unit = self._unit(r)
        variant, reason = self._assignment(unit, ts)
        ours = r.get("experiment_id") == self.spec["id"]
        if not ours and variant is None:
            return None
        arm = r["variant"] if ours and r.get("variant") is not None else variant
        return Call(r, unit, arm, ts, self._stage(ts), ts // HOUR_US, (reason or "").lower() in UNRANDOM)

    def _stage(self, ts: int) -> int:
        return sum(1 for start in self.starts[1:] if ts >= start)

    # which call stands for its request

    def _requests(self) -> None:
        self.requests: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
        for c in self.calls:
            if c.unit is not None and c.arm is not None:
                self.requests[c.unit, c.arm, c.record.get("request_id") or c.record["interaction_id"]].append(c)
        for group in self.requests.values():
            ordered = sorted(group, key=lambda c: (c.ts, c.record.get("attempt") or 0, c.record["interaction_id"]))
            head = ordered[0] if self.how == "first" else ordered[-1]
            head.head = True
            unrandom = any(c.unrandom for c in group)
            for c in group:
                c.stage, c.hour, c.unrandom = self._stage(head.ts), head.ts // HOUR_US, unrandom

    # scores: which interaction, which one counts

    def _scores(self, records: list[Record]) -> dict[str, list[tuple[str, str, float]]]:
        latest: dict[tuple[str, ...], tuple[Any, Record]] = {}
        for r in records:
            moment = us(r.get("updated_at") or r["ts"])
            target = self._target(next(s for s in records if s["score_id"] == r["score_id"]))
            if target is None or moment > self.as_of:
                continue
            key = (target, r["name"], r["scorer_kind"], r.get("scorer_id") or "")
            rank = (moment, r["score_id"], "updated_at" in r)
            if key not in latest or rank > latest[key][0]:
                latest[key] = (rank, r)
        found: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
        for (target, *_), (_, r) in latest.items():
            if r.get("value") is not None:
                found[target].append((r["name"], r["scorer_kind"], r["value"]))
        return found

    def _target(self, s: Record) -> str | None:
        def same(*keys: str) -> list[Record]:
            if any(s.get(k) is None for k in keys):
                return []
            return [i for i in self.interactions if all(i.get(k) == s[k] for k in keys)]

        def answers(*keys: str) -> list[Record]:
            """Only an answer that somebody saw can be judged as "the request" or "the trace"."""
            return [i for i in same(*keys) if i.get("operation") in GENERATION and i.get("exposed", True)]

        attempts: dict[str | None, list[Record]] = defaultdict(list)
        for i in sorted(answers("request_id", "variant"), key=lambda i: i["interaction_id"]):
            attempts[i.get("unit_id")].append(i)
        steps = [
            same("interaction_id"), answers("request_id", "variant"), same("trace_id", "span_id"), same("provider_response_id"),
            answers("trace_id") if s.get("interaction_id") is None else [],
            [group[0] for group in attempts.values()],  # the attempts of one unit's request are one target after all
        ]  # fmt: skip
        return next((step[0]["interaction_id"] for step in steps if len(step) == 1), None)

    # what

    def _measure(self) -> None:
        for j, m in enumerate(self.metrics):
            for group in self.requests.values():
                self._measure_request(j, m, group)

    def _measure_request(self, j: int, m: Record, group: list[Call]) -> None:
        per_call = m.get("per") == "call"
        if m.get("score"):
            for c in group:
                mine = [v for name, kind, v in self.scores.get(c.record["interaction_id"], [])
                        if name == m["score"] and m.get("scorer_kind") in (None, kind)]  # fmt: skip
                c.x[j], c.y[j] = sum(fixed(v, 10**6) for v in mine), len(mine)
            return
        summed = self.how == "sum" and not per_call
        if m["kind"] in ("proportion", "count"):
            for c in group:
                happened = FUNCTIONS[m.get("event", "TRUE")](c.record) if per_call or c.head else None
                c.x[j], c.y[j] = int(happened is True), int(happened is not None)
            return
        scale = scale_of(m)
        if m["kind"] == "ratio":
            for c in group:
                above, below = FUNCTIONS[m["numerator"]](c.record), FUNCTIONS[m["denominator"]](c.record)
                known = (per_call or c.head or summed) and above is not None and below is not None
                c.x[j], c.y[j] = (fixed(above, scale), fixed(below, scale)) if known else (0, 0)
            return
        values = {id(c): FUNCTIONS[m["value"]](c.record) for c in group}
        if m["kind"] == "quantile":
            for c in group:
                known = [v for v in values.values() if v is not None]
                value = (sum(known) if known else None) if summed else values[id(c)]
                if (per_call or c.head) and value is not None:
                    c.v[j] = float(value)
                c.x[j] = int(j in c.v and c.v[j] > self.threshold(m, str(c.arm)))
                c.y[j] = int(j in c.v)
            return
        for c in group:
            value = values[id(c)] if per_call or c.head or summed else None
            c.x[j] = 0 if value is None else fixed(value, scale)
            c.y[j] = int(value is not None)
            if summed:
                c.y[j] = int(c.head and any(v is not None for v in values.values()))

    def threshold(self, m: Record, arm: str) -> float:
        """Control must exceed the frozen threshold, a treatment one that is a margin worse."""
        frozen, margin = m["frozen"]["threshold"], m["guardrail"]["margin"]
        if arm == self.arms[0]:
            return float(frozen)
        sign = 1 if m["better"] == "lower" else -1
        return float(
            frozen * (1 + sign * margin["relative"]) if "relative" in margin else frozen + sign * margin["absolute"]
        )

    # what counts

    def _randomised(self) -> list[Call]:
        return [c for c in self.calls if c.unit is not None and c.arm in self.arms and not c.unrandom]

    def _clean(self) -> list[Call]:
        seen: dict[tuple[str | None, int], set[str | None]] = defaultdict(set)
        for c in self._randomised():
            seen[c.unit, c.stage].add(c.arm)
        self.contaminated = {key for key, arms in seen.items() if len(arms) > 1}
        self.units_by_stage = Counter(stage for _, stage in seen)
        return [c for c in self._randomised() if (c.unit, c.stage) not in self.contaminated]

    # -- sums ------------------------------------------------------------------------------------------------------

    def capped(self, j: int) -> tuple[bool, bool]:
        """Return whether a unit's numerator and denominator count at most once."""
        m = self.metrics[j]
        per_unit = m.get("per") == "unit"
        return m["kind"] == "proportion" and per_unit, m["kind"] == "count" or per_unit

    def look(self, c: Call) -> int:
        """Return the name of the stretch of time in which a call fell; `grid_hours` None: stages alone."""
        return c.stage if self.grid_hours is None else c.stage * 10_000_000 + c.hour // self.grid_hours

    def unit_sums(self, j: int, look: int) -> dict[tuple[str, str, int], tuple[int, int]]:
        """Return (unit, arm, stage) -> (x, y) of everything up to a look."""
        cap_x, cap_y = self.capped(j)
        sums: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
        for c in self.clean:
            if self.look(c) <= look:
                sums[c.cell][0] += c.x[j]
                sums[c.cell][1] += c.y[j]
        return {k: (min(x, 1) if cap_x else x, min(y, 1) if cap_y else y) for k, (x, y) in sums.items()}

    def cells(self, j: int, look: int) -> dict[Cell, tuple[int, int, int]]:
        """Return (arm, stage) -> (units, x, y)."""
        out: dict[Cell, list[int]] = defaultdict(lambda: [0, 0, 0])
        for (_, arm, stage), (x, y) in self.unit_sums(j, look).items():
            for i, more in enumerate((1, x, y)):
                out[arm, stage][i] += more
        return {k: (n, x, y) for k, (n, x, y) in out.items()}

    def pairs(self, j: int, look: int) -> dict[tuple[Cell, Cell], tuple[int, int, int, int]]:
        """Return pair of cells (earlier stage first) -> (xx, xy, yx, yy), summed over units."""
        units: dict[str, list[tuple[Cell, int, int]]] = defaultdict(list)
        for (unit, arm, stage), (x, y) in self.unit_sums(j, look).items():
            units[unit].append(((arm, stage), x, y))
        out: dict[tuple[Cell, Cell], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for cells in units.values():
            for p, xp, yp in cells:
                for q, xq, yq in cells:
                    if p == q or p[1] < q[1]:
                        for i, product in enumerate((xp * xq, xp * yq, yp * xq, yp * yq)):
                            out[p, q][i] += product
        return {k: (v[0], v[1], v[2], v[3]) for k, v in out.items()}

    def first_events(self, j: int) -> dict[tuple[str, int, int], tuple[int, int]]:
        """Return (arm, stage, hour) -> (units with their first bad event, what units still without one sent).

        For a proportion of requests or calls the second number is its denominator. Where units are counted the share is
        the configured one and needs no denominator: the number says how many requests could tell, and only makes batches.
        """
        cap_x, _ = self.capped(j)
        absence = self.metrics[j]["better"] == "higher"
        steps: dict[str, list[tuple[int, int, str, int, int]]] = defaultdict(list)
        for unit, arm, stage in {c.cell for c in self.clean}:
            mine = [c for c in self.clean if c.cell == (unit, arm, stage)]
            done = 0
            for hour in sorted({c.hour for c in mine}):
                gained = [sum(c.x[j] for c in mine if c.hour == hour), sum(c.y[j] for c in mine if c.hour == hour)]
                if cap_x:
                    gained[0] = min(done + gained[0], 1) - done
                done += gained[0]
                steps[str(unit)].append((hour, stage, str(arm), gained[0], gained[1]))
        out: dict[tuple[str, int, int], list[int]] = defaultdict(lambda: [0, 0])
        for unit_steps in steps.values():
            over = False
            for hour, stage, arm, x, y in sorted(unit_steps):
                cell = out[arm, stage, hour]
                if over:
                    continue
                cell[1] += y
                over = y > x if absence else x > 0
                cell[0] += over
        return {k: (v[0], v[1]) for k, v in out.items()}

    def histogram(self, j: int) -> Counter[tuple[str, int, int]]:
        """Return (arm, stage, bucket) -> values, buckets 0.5 % wide, one for everything without a logarithm."""
        return Counter(
            (str(c.arm), c.stage, math.floor(math.log(c.v[j]) * 200) if c.v[j] > 0 else -1_000_000)
            for c in self.clean if j in c.v
        )  # fmt: skip
