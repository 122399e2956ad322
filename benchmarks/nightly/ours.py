"""Our side: what a worker process does when it is asked (benchmarks/peers/workers/for_own.py)."""

from functools import cache
from pathlib import Path
from typing import Any

from abtest.analysis import analyze as analysis
from abtest.analysis import read as reading
from abtest.analysis.evidence import Evidence
from abtest.analysis.together import together
from abtest.rollout import decide as deciding
from abtest.spec import Experiment
from abtest.store import state
from abtest.store.engines.duckdb import DuckDBEngine
from abtest.store.files import sql_root
from abtest.store.store import Store
from benchmarks.nightly.logs import Logs, add_days, spec_of, write_ndjson
from benchmarks.peers.workers.measure import peak_mb, timed


@cache
def _open(path: str) -> Store:
    return Store(path)


def nightly(
    db: str, logs: dict[str, Any], *, full: bool = True, segments: bool = False, covariate: bool = True, metrics: int = 12,
    series: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Time the analysis of every experiment in a store; `full`: nothing is known from an earlier one but the constants."""
    store, shape = _open(db), Logs(**logs)
    specs = [
        Experiment.from_dict(spec_of(shape, metrics=metrics, segments=segments, covariate=covariate, k=k))
        for k in range(shape.experiments)
    ]
    if full:
        state.drop(store)
    reads, judges, hashes, estimates = 0.0, 0.0, [], {}
    each = together(store, specs, series=series)
    while True:
        # The pass that serves several of them is a part of reading the first.
        seconds, spec = timed(lambda: next(each, None))
        reads += seconds
        if spec is None:
            break
        seconds, evidence = timed(
            lambda spec=spec: reading.read(store, spec, segments="all" if segments else "guardrails", series=series)
        )
        reads += seconds
        seconds, found = timed(lambda evidence=evidence: analysis.analyze_evidence(evidence))
        judges += seconds
        hashes.append(found.evidence_sha256)
        estimates = {f"{m.metric} {m.treatment}": m.estimate for m in found.metrics}
    last = specs[-1]
    return {
        "seconds": reads + judges, "read": reads, "judge": judges, "peak": peak_mb(), "hash": " ".join(hashes),
        "estimates": estimates, "levels": {f"{m.metric} {m.treatment}": m.control_value for m in found.metrics}, "errors": errors_of(evidence, last), "reported": {
            f"{m.metric} {m.treatment}": m.std_error for m in found.metrics
        },
    }  # fmt: skip


def errors_of(evidence: Evidence, spec: Experiment) -> dict[str, float]:
    """Return the standard errors of a fixed test with peers' n/(n-1), of plain means and ratios, from our integer moments.

    A stage of its own, no CUPED: sqrt(V_C + V_T) with V = n/(n-1) sum (x - r y)^2 / Y^2. What `std_error` of a result says is the
    largest of this (without n/(n-1)), of the design variance under the null, and of a floor.
    """
    found: dict[str, float] = {}
    if len(evidence.strata) > 1:
        return found
    for j, metric in enumerate(spec.metrics):
        if metric.kind == "quantile" or evidence.scan.measures[j].covariate:
            continue
        for treatment in spec.treatments:
            sums, variance = evidence.pair_sums(j, treatment), 0.0
            for arm in (0, 1):
                n, x, y = (float(a[arm, 0, -1]) for a in (sums.units, sums.x, sums.y))
                xx, xy, yy = (float(a[arm, 0, arm, 0, -1]) for a in (sums.xx, sums.xy, sums.yy))
                rate = x / y
                variance += n / (n - 1) * (xx - 2 * rate * xy + rate * rate * yy) / (y * y)
            found[f"{metric.name} {treatment}"] = variance**0.5
    return found


def add_day(db: str, logs: dict[str, Any], day: int) -> dict[str, Any]:
    """Add one day of logs."""
    store = _open(db)
    add_days(store.connection, Logs(**logs), day, day + 1)
    store.connection.execute("checkpoint")
    return {"rows": store.connection.execute("select count(*) from interaction").fetchall()[0][0]}


# --- where the time goes ---------------------------------------------------------------------------------------------


def profile(db: str, logs: dict[str, Any], *, segments: bool = True) -> dict[str, Any]:
    """Return seconds by query (the table it fills, or the file of sql/ it comes from), and of everything besides."""
    spent: dict[str, list[float]] = {}
    names = {path.read_text(encoding="utf-8").splitlines()[0]: path.stem for path in sql_root().glob("*.sql")}
    rows, keep = DuckDBEngine.rows, DuckDBEngine.keep

    def noted(name: str, call: Any) -> Any:
        seconds, answer = timed(call)
        spent.setdefault(name, []).append(seconds)
        return answer

    def timed_rows(self: DuckDBEngine, sql: str, params: Any = None) -> Any:
        return noted(names.get(sql.strip().splitlines()[0], "small look-ups"), lambda: rows(self, sql, params))

    def timed_keep(self: DuckDBEngine, table: str, sql: str, params: Any = None) -> None:
        noted(f"{table} (kept)", lambda: keep(self, table, sql, params))

    save = state.save
    DuckDBEngine.rows, DuckDBEngine.keep = timed_rows, timed_keep  # type: ignore[method-assign]
    state.save = lambda *a, **k: noted("state.save", lambda: save(*a, **k))  # type: ignore[assignment]
    try:
        answer = nightly(db, logs, segments=segments)
    finally:
        DuckDBEngine.rows, DuckDBEngine.keep, state.save = rows, keep, save  # type: ignore[method-assign]
    return {**answer, "spent": spent}


# --- ticks -----------------------------------------------------------------------------------------------------------


def tick(db: str, logs: dict[str, Any], first: int, rows: int, folder: str) -> dict[str, Any]:
    """Time one tick on a closed store: new NDJSON rows in, a decision out; by step."""
    shape = Logs(**logs)
    path = Path(folder) / f"tick-{first}.ndjson"
    write_ndjson(shape, first, first + rows, path)
    spec = Experiment.from_dict(spec_of(shape, covariate=False))
    inner: dict[str, float] = {}
    read, judge = deciding.read, deciding.analyze_evidence

    def timed_step(name: str, call: Any) -> Any:
        def run(*args: Any, **more: Any) -> Any:
            inner[name], answer = timed(lambda: call(*args, **more))
            return answer

        return run

    deciding.read, deciding.analyze_evidence = timed_step("read", read), timed_step("judge", judge)  # type: ignore[assignment]
    try:
        seconds, (steps, inserted, decision) = timed(lambda: _tick(db, path, spec))
    finally:
        deciding.read, deciding.analyze_evidence = read, judge
    path.unlink()
    ledger = steps.pop("decide") - sum(inner.values())
    return {
        "seconds": seconds, "peak": peak_mb(), "inserted": inserted, "decision": decision,
        "steps": {"open": steps["open"], "ingest": steps["ingest"], **inner, "ledger": ledger, "close": steps["close"]},
    }  # fmt: skip


def _tick(db: str, path: Path, spec: Experiment) -> tuple[dict[str, float], int, str]:
    steps: dict[str, float] = {}
    steps["open"], store = timed(lambda: Store(db))
    try:
        steps["ingest"], report = timed(lambda: store.ingest(path, source="native"))
        steps["decide"], decision = timed(lambda: deciding.decide(store, spec))
    finally:
        steps["close"], _ = timed(store.close)
    return steps, report.inserted, f"{decision.decision} {decision.reason}"


TASKS = {"nightly": nightly, "add_day": add_day, "profile": profile, "tick": tick}
