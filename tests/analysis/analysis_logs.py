"""Random logs for the analysis tests: everything a real log can hold, and much of what it should not.

`random_case(seed)` returns an experiment and its records. Small numbers everywhere, so that a plain Python oracle is quick,
and wide variety, so that every branch of the SQL meets every other one in some seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

START = datetime(2026, 11, 1, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
HOUR_US = 3_600_000_000
Record = dict[str, Any]


def at(hours: float) -> str:
    """Return the moment `hours` after the start, to the microsecond."""
    return (START + timedelta(microseconds=round(hours * HOUR_US))).isoformat()


def us(moment: str) -> int:
    """Return RFC 3339 as microseconds since 1970, in integers."""
    delta = datetime.fromisoformat(moment) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def hours_us(hours: float) -> int:
    return us(at(hours))


def call(key: str, unit: str | None, variant: str | None, hours: float = 0.5, **fields: Any) -> Record:
    """Return an interaction of experiment "e"."""
    return {
        "interaction_id": key, "ts": at(hours), "model": "m", "unit_id": unit, "experiment_id": "e", "variant": variant, **fields,
    }  # fmt: skip


def assign(unit: str, variant: str, hours: float = 0.0, **fields: Any) -> Record:
    """Return an assignment of experiment "e"."""
    return {"type": "assignment", "experiment_id": "e", "unit_id": unit, "variant": variant, "ts": at(hours), **fields}


def score(
    key: str, target: str | None, value: float | None, hours: float = 1.0, name: str = "help", **fields: Any
) -> Record:
    """Return a score of an interaction."""
    kind = fields.pop("scorer_kind", "human")
    return {
        "type": "score", "score_id": key, "ts": at(hours), "name": name, "scorer_kind": kind, "value": value,
        "interaction_id": target, **fields,
    }  # fmt: skip


PROPORTION: Record = {"name": "p", "kind": "proportion", "event": "refused", "better": "lower"}
MEAN: Record = {"name": "m", "kind": "mean", "value": "latency_ms", "better": "lower"}
SCORE: Record = {"name": "s", "kind": "mean", "score": "help", "better": "higher"}


def spec_of(*metrics: Record, **fields: Any) -> Record:
    """Return an experiment "e" of A against B."""
    return {"id": "e", "control": "A", "treatments": ["B"], "metrics": list(metrics) or [PROPORTION], **fields}


@dataclass
class Case:
    """An experiment, its records, and the last moment of the log in microseconds."""

    spec: Record
    records: list[Record]
    end_us: int


# Metrics of the random cases. The oracle knows the same ones in Python (see analysis_oracle.FUNCTIONS).
METRICS: list[Record] = [
    {"name": "refusal", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.01}}},
    {"name": "slow", "kind": "proportion", "event": "latency_ms > 2000 AND NOT refused", "better": "lower", "per": "call",
     "guardrail": {"margin": {"points": 0.01}}},
    {"name": "format", "kind": "proportion", "event": "format_ok", "better": "higher", "guardrail": {"margin": {"points": 0.01}}},
    {"name": "unit_error", "kind": "proportion", "event": "is_error", "better": "lower", "per": "unit", "guardrail": {"margin": {"points": 0.01}}},
    {"name": "unit_format", "kind": "proportion", "event": "format_ok", "better": "higher", "per": "unit"},
    {"name": "tier", "kind": "proportion", "event": "attributes ->> 'tier' = 'pro' OR refused IS NULL", "better": "lower"},
    {"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower"},
    {"name": "offset", "kind": "mean", "value": "latency_ms + 1000000000", "better": "lower", "per": "call"},
    {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower", "per": "unit"},
    {"name": "tokens", "kind": "mean", "value": "COALESCE(output_tokens, 0) - reasoning_tokens", "better": "higher"},
    {"name": "cost_per_success", "kind": "ratio", "numerator": "cost_usd",
     "denominator": "CASE WHEN NOT is_error AND format_ok THEN 1 ELSE 0 END", "better": "lower"},
    {"name": "verbosity", "kind": "ratio", "numerator": "output_tokens", "denominator": "input_tokens", "better": "lower", "per": "call"},
    {"name": "requests", "kind": "count", "better": "lower"},
    {"name": "cut", "kind": "count", "event": "finish_reason = 'length'", "better": "lower", "per": "call"},
    {"name": "latency_p50", "kind": "quantile", "value": "latency_ms", "q": 0.5, "better": "lower",
     "guardrail": {"margin": {"relative": 0.4}}, "frozen": {"threshold": 900.0}},
    {"name": "speed_p20", "kind": "quantile", "value": "response_chars", "q": 0.2, "better": "higher", "per": "call",
     "guardrail": {"margin": {"absolute": 7.0}}, "frozen": {"threshold": 31.0}},
    {"name": "help", "kind": "mean", "score": "help", "better": "higher"},
    {"name": "judge", "kind": "mean", "score": "help", "scorer_kind": "judge", "better": "higher", "per": "call"},
    {"name": "taste", "kind": "mean", "score": "taste", "better": "higher", "per": "unit"},
]  # fmt: skip


def random_case(seed: int) -> Case:
    """Return a random experiment and its log."""
    rng = np.random.default_rng(seed)
    spec = _spec(rng)
    starts, shares = _strata(spec)
    records = _Log(rng, spec, starts, shares).build()
    ends = [us(r["updated_at"]) if r.get("updated_at") else us(r["ts"]) for r in records]
    return Case(spec, records, max(ends))


def _spec(rng: np.random.Generator) -> Record:
    stages = int(rng.integers(0, 5))
    # Stages start on whole hours or in the middle of one.
    times = np.sort(rng.choice(np.arange(0, 60), size=stages, replace=False)) / 2.0
    shares = np.sort(rng.choice([0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.45], size=stages, replace=False))
    spec: Record = {
        "id": "e", "control": "A", "treatments": ["B", "C"] if rng.random() < 0.25 else ["B"], "warm_up_units": 30,
        "unit": str(rng.choice(["user", "user", "session", "request"])),
        "population": {"per_request": str(rng.choice(["last", "first", "sum"]))},
        "allocation": [{"at": at(float(t)), "share": float(q)} for t, q in zip(times, shares, strict=True)],
        "metrics": METRICS,
    }  # fmt: skip
    if rng.random() < 0.3:
        spec["population"]["where"] = str(
            rng.choice(["surface = 'support'", "environment IN ('prod', 'eu') OR turn > 1"])
        )
    if rng.random() < 0.2:
        spec["start"], spec["end"] = at(float(rng.uniform(0, 3))), at(float(rng.uniform(25, 29)))
    return spec


def _strata(spec: Record) -> tuple[list[int], list[float]]:
    rows = spec["allocation"]
    return ([us(r["at"]) for r in rows], [r["share"] for r in rows]) if rows else ([0], [1 / 3])


class _Log:
    def __init__(self, rng: np.random.Generator, spec: Record, starts: list[int], shares: list[float]) -> None:
        self.rng, self.spec = rng, spec
        self.starts, self.shares = starts, shares
        self.sticky = rng.random() < 0.7
        self.noise = float(rng.choice([0.0, 0.02, 0.15]))
        self.carrier = str(rng.choice(["log", "log", "assignment", "both"]))
        self.records: list[Record] = []
        self.calls: list[Record] = []

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def build(self) -> list[Record]:
        for n in range(int(self.rng.integers(25, 60))):
            self.unit(n)
        for n in range(int(self.rng.integers(0, 60))):
            self.score(n)
        order = self.rng.permutation(len(self.records))
        return [{k: v for k, v in self.records[i].items() if v is not None} for i in order]

    def arm(self, position: float, moment: float) -> str:
        """Nested hash: a unit below the share is in treatment, and stays there while the share grows."""
        q = [s for start, s in zip(self.starts, self.shares, strict=True) if start <= hours_us(moment)][-1:] or [
            self.shares[0]
        ]
        arms = self.spec["treatments"]
        for n, name in enumerate(arms):
            if position < q[0] * (n + 1) and (n == 0 or position >= q[0] * n):
                return str(name)
        return "A"

    def unit(self, n: int) -> None:
        user, position = f"u{n}", float(self.rng.random())
        moments = np.round(self.rng.uniform(0, 31, size=int(self.rng.integers(1, 6))), int(self.rng.integers(0, 7)))
        if self.carrier != "log":
            self.assignments(user, position, moments)
        for r, moment in enumerate(moments):
            here = position if self.sticky and not self.chance(self.noise) else float(self.rng.random())
            self.request(f"{user}r{r}", user, self.arm(here, float(moment)), float(moment))

    def assignments(self, user: str, position: float, moments: np.ndarray) -> None:
        keys = [user, f"{user}s0", f"{user}s1"] if self.spec["unit"] == "session" else [user]
        if self.spec["unit"] == "request":
            keys = [f"{user}r{r}" for r in range(len(moments))]
        for key in keys:
            if self.chance(0.1):
                continue
            first = float(moments.min())
            for moment in [
                first - (0.0 if self.chance(0.3) else 0.25),
                *self.rng.uniform(0, 31, size=int(self.rng.integers(0, 3))),
            ]:
                where = position if self.sticky and not self.chance(0.1) else float(self.rng.random())
                reason = self.pick("split", "split", "split", None, "targeting_match", "cached")
                reason = self.pick("default", "error", "STALE", "Disabled") if self.chance(0.1) else reason
                record = assign(key, self.arm(where, float(moment)), float(moment), reason=reason)
                record["experiment_id"] = "e" if self.chance(0.95) else "other"
                self.records.append(record)
                if self.chance(0.1):  # two flags at the same moment: the later name wins
                    self.records.append({**record, "variant": "ghost" if self.chance(0.5) else "B2"})

    def request(self, key: str, user: str, arm: str, moment: float) -> None:
        attempts = int(self.pick(1, 1, 1, 2, 3))
        named = self.chance(0.85)
        for n in range(attempts if named else 1):
            # Attempts wander into later hours and stages, and tie.
            later = 0.0 if self.chance(0.4) else float(self.rng.choice([0.0001, 0.2, 1.5]))
            moment = min(moment + later * n, 31.5)
            own = arm if not self.chance(0.01) else self.pick("A", "B", "ghost")
            self.one_call(
                f"{key}c{n}" if attempts > 1 or self.chance(0.5) else key, key if named else None, user, own, moment, n
            )

    def one_call(self, key: str, request: str | None, user: str, arm: str, moment: float, attempt: int) -> None:
        maybe = self.maybe
        logged = self.carrier == "log" or (self.carrier == "both" and self.chance(0.5))
        record = call(
            key, None if self.chance(0.02) else user, arm if logged and not self.chance(0.02) else None, moment,
            request_id=request, attempt=maybe(attempt, 0.3), session_id=maybe(f"{user}s{int(self.rng.integers(2))}", 0.05),
            exposed=False if self.chance(0.04) else self.pick(True, None), turn=self.pick(1, 2, None),
            operation="embeddings" if self.chance(0.04) else self.pick(None, "chat", "text_completion", "generate_content"),
            surface=self.pick("support", "support", "search", None), environment=self.pick("prod", "eu", "test", None),
            latency_ms=maybe(float(np.round(self.rng.lognormal(7, 1), 3)), 0.1) if self.chance(0.97) else 0.0,
            cost_usd=maybe(float(self.rng.lognormal(-7, 1)), 0.1), input_tokens=maybe(int(self.rng.integers(0, 900)), 0.1),
            output_tokens=maybe(int(self.rng.integers(0, 900)), 0.1), reasoning_tokens=maybe(int(self.rng.integers(0, 90)), 0.1),
            response_chars=maybe(int(self.rng.integers(0, 99)), 0.1), finish_reason=self.pick("stop", "length", None),
            refused=maybe(self.chance(0.2), 0.1), format_ok=maybe(self.chance(0.8), 0.1), is_error=self.pick(False, False, True, None),
            attributes=self.pick(None, {"tier": "pro"}, {"tier": "free", "x": 1}, {"tier": None}, {"other": {"tier": "pro"}}),
            trace_id=maybe(f"t{user}", 0.5), span_id=maybe(key, 0.5), provider_response_id=maybe(f"p{key}", 0.5),
            prompt_version=self.pick("v1", "v1", "v1", None, "v2"),
        )  # fmt: skip
        if self.chance(0.03):
            record["experiment_id"], record["variant"] = self.pick(
                (None, None), (None, "A"), ("other", "B"), ("other", None)
            )
        self.records.append(record)
        self.calls.append(record)

    def maybe(self, value: Any, missing: float) -> Any:
        return None if self.chance(missing) else value

    def score(self, n: int) -> None:
        target = self.calls[int(self.rng.integers(len(self.calls)))]
        keys: Record = self.pick(
            {"interaction_id": target["interaction_id"]}, {"interaction_id": target["interaction_id"]},
            {"request_id": target["request_id"], "variant": target["variant"]},
            {"trace_id": target["trace_id"], "span_id": target["span_id"]}, {"trace_id": target["trace_id"]},
            {"provider_response_id": target["provider_response_id"]}, {"interaction_id": f"orphan{n}"},
        )  # fmt: skip
        if not (
            keys.get("interaction_id")
            or keys.get("trace_id")
            or keys.get("provider_response_id")
            or (keys.get("request_id") and keys.get("variant"))
        ):
            keys = {"interaction_id": target["interaction_id"]}
        moment = float(np.round(self.rng.uniform(0, 33), 3))
        value = self.maybe(float(np.round(self.rng.uniform(-1, 1), 7)), 0.1)
        base: Record = {
            "type": "score", "score_id": f"s{n}", "ts": at(moment), "name": self.pick("help", "help", "taste"),
            "scorer_kind": self.pick("judge", "human", "user"), "scorer_id": self.pick(None, "gpt", "amy"), "value": value,
            "error_type": "timeout" if value is None else None, **keys,
        }  # fmt: skip
        self.records.append(base)
        for correction in range(int(self.pick(0, 0, 0, 1, 2))):
            fixed = self.maybe(float(np.round(self.rng.uniform(-1, 1), 7)), 0.1)
            later = at(moment + float(self.rng.uniform(0.01, 9)) + 10 * correction)
            self.records.append(
                {**base, "value": fixed, "error_type": "parse" if fixed is None else None, "updated_at": later}
            )
