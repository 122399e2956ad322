"""The logs that the nightly benchmarks read: written by SQL straight into the store's table, the same on every machine.

n calls of n/10 users in 30 days. The first three days have no experiment yet (the users' past, for CUPED); then every call
has an arm. Numbers come from hash(), so that a day can be added on its own and is the same as in one piece.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from abtest.store.store import Store

DAYS = 30
PAST_DAYS = 3
CALLS_A_USER = 10
BEGIN = datetime(2026, 9, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
LEVELS = 10
RAMP = (0.05, 0.2, 0.5)
"""Share of all treatments together in the three stages; each stage takes a third of the days."""
SCANNED = ("experiment_id", "unit_id", "variant", "ts_us", "surface", "refused", "is_error", "format_ok", "latency_ms", "ttft_ms",
           "cost_usd", "input_tokens", "output_tokens")  # fmt: skip
"""The 13 columns that the nightly analysis is about: what the bare scan reads, and what peers get as Parquet."""
THRESHOLDS = (400.0, 1350.0, 2250.0)
"""Near p50, p95 and p99 of the latency; the hand-written SQL counts what lies above them."""


@dataclass(frozen=True)
class Logs:
    """What is in a store.

    Attributes:
        rows: Calls in 30 days.
        treatments: How many, besides control.
        staged: Three stages (5, 20, 50 %) with returning users, not one with equal shares.
        experiments: Disjoint experiments that the users are spread over.
    """

    rows: int
    treatments: int = 2
    staged: bool = False
    experiments: int = 1

    @property
    def users(self) -> int:
        """Return how many users there are."""
        return max(self.rows // CALLS_A_USER, 100)

    @property
    def shares(self) -> list[tuple[int, float]]:
        """Return (day, share of each treatment) of every stage."""
        if not self.staged:
            return [(PAST_DAYS, 1 / (self.treatments + 1))]
        length = (DAYS - PAST_DAYS) // len(RAMP)
        return [(PAST_DAYS + k * length, share / self.treatments) for k, share in enumerate(RAMP)]

    @property
    def name(self) -> str:
        """Return a file name."""
        kind = "staged" if self.staged else "plain"
        return f"{kind}-{self.rows}-{self.treatments}-{self.experiments}"


def experiment_id(k: int) -> str:
    """Return the id of the k-th experiment."""
    return f"nightly-{k:03d}"


# --- rows ------------------------------------------------------------------------------------------------------------


def make_store(logs: Logs, path: Path, *, days: int = DAYS) -> Path:
    """Write a store with the first days of the logs; one that is there already is taken as it is."""
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        with Store(unfinished) as store:
            add_days(store.connection, logs, 0, days)
            store.connection.execute("checkpoint")
        unfinished.rename(path)
    return path


def add_days(con: duckdb.DuckDBPyConnection, logs: Logs, first: int, last: int) -> None:
    """Add the calls of the days first..last-1, each as a load of its own."""
    columns = [str(r[0]) for r in con.execute(
        "select column_name from duckdb_columns() where table_name = 'interaction' order by column_index"
    ).fetchall()]  # fmt: skip
    values = expressions(logs)
    wanted = ", ".join(f"{values.get(c, 'null')} as {c}" for c in columns)
    con.execute(
        f"insert into interaction select {wanted} from ({drawn(logs, logs.rows * first // DAYS, logs.rows * last // DAYS)})"
    )
    for day in range(first, last):
        con.execute(
            "insert into file_ledger (file_id, path, sha256, bytes, source, lines, records, inserted, duplicates, conflicts,"
            " quarantined, ignored, ingested_us) values ($id, $path, $path, 1, 'native', 1, 1, 1, 0, 0, 0, 0, $id)",
            {"id": day + 1, "path": f"day-{day + 1:02d}"},
        )


def drawn(logs: Logs, first: int, last: int) -> str:
    """Return the query of raw draws: i the call, u its user, and three uniform numbers."""
    uniform = ", ".join(f"(hash(i * 3 + {k}) % 1000003) / 1000003.0 as r{k}" for k in range(1, 4))
    return (
        f"select *, {_arm(logs)} as arm from (select i, hash(i) % {logs.users} as u, {uniform}"
        f" from (select range as i from range({first}, {last})))"
    )


def expressions(logs: Logs) -> dict[str, str]:
    """Return column -> expression over the raw draws; what is not here is NULL."""
    exposed = f"i >= {logs.rows * PAST_DAYS // DAYS}"
    user = lambda k: f"(hash(u + {k}) % 1000) / 1000.0"  # noqa: E731 - a user's own level of something
    return {
        "interaction_id": "printf('i%011d', i)", "request_id": "printf('r%011d', i)",
        "ts_us": f"{int(BEGIN.timestamp() * 1e6)} + cast(i * ({DAYS * DAY_US} / {logs.rows}.0) as bigint)",
        "model": "case when arm = 'baseline' then 'model-a' else 'model-' || arm end",
        "unit_id": "printf('user-%08d', u)",
        "experiment_id": f"case when {exposed} then printf('nightly-%03d', u % {logs.experiments}) end",
        "variant": f"case when {exposed} then arm end", "exposed": "true", "turn": "1",
        "surface": f"printf('surface-%d', hash(u + 11) % {LEVELS})", "operation": "'chat'", "provider": "'openai'",
        "prompt_name": "'support'", "prompt_version": "'v12'",
        "latency_ms": f"round(exp(5.6 + 0.7 * sqrt(-2 * ln(r1 + 1e-9)) * cos(6.283185307 * r2) + 0.8 * {user(7)}), 1)",
        "ttft_ms": "round(100 + 400 * r3, 1)", "input_tokens": "cast(300 + r2 * 900 as bigint)", "cached_input_tokens": "0",
        "output_tokens": f"cast(50 + r3 * 400 + 200 * {user(5)} as bigint)", "cost_usd": "round(0.0005 + 0.004 * r1, 6)",
        "finish_reason": "'stop'", "refused": f"r2 < 0.02 + 0.02 * {user(3)}", "format_ok": "r3 > 0.03", "is_error": "r1 < 0.01",
        "response_chars": "cast(200 + 2400 * r3 as bigint)", "source": "'native'", "file_id": f"1 + i * {DAYS} // {logs.rows}",
    }  # fmt: skip


def _arm(logs: Logs) -> str:
    """Return the arm of a user in the stage that runs: a user who is in treatment stays there when the share grows."""
    u = "hash(u + 1) / 18446744073709551616.0"
    arms, stages = "", logs.shares
    for k, (day, share) in reversed(list(enumerate(stages))):
        inside = " ".join(
            f"when {u} >= {t / logs.treatments} and {u} < {t / logs.treatments + share} then '{name}'"
            for t, name in enumerate(treatments(logs))
        ) if logs.staged else " ".join(
            f"when {u} < {(t + 1) * share} then '{name}'" for t, name in enumerate(treatments(logs))
        )  # fmt: skip
        cases = f"case {inside} else 'baseline' end"
        arms += f" when i >= {logs.rows * day // DAYS if k else 0} then {cases}"
    return f"case{arms} end"


def treatments(logs: Logs) -> list[str]:
    """Return the names of the treatments."""
    return ["candidate", *(f"candidate-{t}" for t in range(2, logs.treatments + 1))]


def write_parquet(store: Path, path: Path) -> Path:
    """Write the 13 columns of a store for the peers."""
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        with duckdb.connect(str(store), read_only=True) as con:
            con.execute(
                f"copy (select {', '.join(SCANNED)} from interaction) to '{unfinished}' (format parquet, compression zstd)"
            )
        unfinished.rename(path)
    return path


def write_ndjson(logs: Logs, first: int, last: int, path: Path) -> None:
    """Write the calls first..last-1 (they may lie after the 30 days) as native NDJSON."""
    left_out = {"file_id", "source", "ts_us"}
    values = {k: v for k, v in expressions(logs).items() if k not in left_out}
    ts = expressions(logs)["ts_us"]
    columns = ", ".join(f"{v} as {k}" for k, v in values.items())
    with duckdb.connect() as con:
        con.execute(
            f"copy (select {columns}, strftime(make_timestamp({ts}), '%Y-%m-%dT%H:%M:%S.%fZ') as ts"
            f" from ({drawn(logs, first, last)})) to '{path}' (format json)"
        )


# --- specs -----------------------------------------------------------------------------------------------------------

METRICS: list[dict[str, object]] = [
    {"name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower",
     "guardrail": {"margin": {"points": 0.01}}},
    {"name": "error_rate", "kind": "proportion", "event": "is_error", "better": "lower", "guardrail": {"margin": {"points": 0.01}}},
    {"name": "format_ok", "kind": "proportion", "event": "format_ok", "better": "higher",
     "guardrail": {"margin": {"points": 0.01}}},
    {"name": "latency_mean", "kind": "mean", "value": "latency_ms", "better": "lower", "covariate": "pre"},
    {"name": "ttft", "kind": "mean", "value": "ttft_ms", "better": "lower"},
    {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower",
     "guardrail": {"margin": {"relative": 0.1}, "action": "hold"}},
    {"name": "tokens_in_a_user", "kind": "mean", "value": "input_tokens", "per": "unit", "better": "lower"},
    {"name": "tokens_out", "kind": "mean", "value": "output_tokens", "better": "lower"},
    {"name": "cost_per_success", "kind": "ratio", "numerator": "cost_usd", "better": "lower",
     "denominator": "CASE WHEN NOT is_error AND format_ok THEN 1 ELSE 0 END"},
    {"name": "p50", "kind": "quantile", "value": "latency_ms", "q": 0.5, "better": "lower"},
    {"name": "p95", "kind": "quantile", "value": "latency_ms", "q": 0.95, "better": "lower",
     "guardrail": {"margin": {"relative": 0.2}}},
    {"name": "p99", "kind": "quantile", "value": "latency_ms", "q": 0.99, "better": "lower"},
]  # fmt: skip


def metrics_of(count: int) -> list[dict[str, object]]:
    """Return that many metrics: the twelve, then shares of calls slower and answers longer than this and that."""
    more = [
        {"name": f"slower_than_{k}", "kind": "proportion", "event": f"latency_ms > {100 + 31 * k}", "better": "lower"}
        if k % 2 else
        {"name": f"tokens_{k}", "kind": "mean", "value": f"output_tokens + {k} * ttft_ms", "better": "lower"}
        for k in range(max(count - len(METRICS), 0))
    ]  # fmt: skip
    return [*METRICS, *more][:count]


def spec_of(
    logs: Logs, *, metrics: int = 12, segments: bool = False, covariate: bool = True, k: int = 0
) -> dict[str, object]:
    """Return the spec of the k-th experiment as JSON."""
    stages = [{"at": (BEGIN + timedelta(days=day)).isoformat(), "share": share} for day, share in logs.shares]
    chosen = [{n: v for n, v in m.items() if covariate or n != "covariate"} for m in metrics_of(metrics)]
    return {
        "id": experiment_id(k), "unit": "user", "control": "baseline", "treatments": treatments(logs),
        "start": stages[0]["at"], "allocation": stages, "metrics": chosen,
        **({"segments": [{"by": "surface"}]} if segments else {}),
    }  # fmt: skip


def toml_of(spec: Mapping[str, object]) -> str:
    """Return a spec as TOML, for the command line; JSON's texts, numbers and arrays are TOML's, only objects differ."""
    return "\n".join(f"{key} = {_toml(value)}" for key, value in spec.items())


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value)
