"""The queries of a small experiment, by the name of their snapshot."""

from __future__ import annotations

import json
from typing import Any

from abtest.analysis.read import scan_of, strata_of
from abtest.spec import Experiment
from abtest.store.query import Scan, fill, manifest_query

METRICS: list[dict[str, Any]] = [
    {"name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower",
     "guardrail": {"margin": {"points": 0.01}}},
    {"name": "valid", "kind": "proportion", "event": "format_ok AND NOT is_error", "better": "higher", "per": "unit"},
    {"name": "latency", "kind": "mean", "value": "latency_ms / 1000", "better": "lower", "per": "call"},
    {"name": "cost_per_success", "kind": "ratio", "numerator": "cost_usd",
     "denominator": "CASE WHEN attributes ->> 'outcome' = 'solved' THEN 1 ELSE 0 END", "better": "lower"},
    {"name": "requests", "kind": "count", "better": "lower"},
    {"name": "latency_p99", "kind": "quantile", "value": "latency_ms", "q": 0.99, "better": "lower",
     "guardrail": {"margin": {"relative": 0.4}}, "frozen": {"threshold": 900.0}},
    {"name": "helpfulness", "kind": "mean", "score": "helpfulness", "scorer_kind": "judge", "better": "higher"},
]  # fmt: skip
SPEC: dict[str, Any] = {
    "id": "sonnet-swap", "control": "baseline", "treatments": ["candidate"], "unit": "session", "metrics": METRICS,
    "population": {"where": "surface = 'it''s \"support\"'"},
    "arms": {"baseline": {"model": "gpt"}, "candidate": {"model": "sonnet", "prompt_version": "v13"}},
    "allocation": [{"at": "2026-11-01T00:00:00Z", "share": 0.01}, {"at": "2026-11-02T00:00:00Z", "share": 0.5}],
}  # fmt: skip
COVARIATES = [m if m["kind"] == "quantile" else {**m, "covariate": "pre"} for m in METRICS]
"""The same metrics, each with CUPED where the kind knows it."""
THRESHOLDS = {5: (900.0, 1260.0)}


def scan(*, derive_arms: bool = False, **changes: Any) -> Scan:
    """Return the scan of the sample spec."""
    experiment = Experiment.from_dict({**SPEC, **changes})
    as_of = 1_794_000_000_000_000
    return scan_of(experiment, strata_of(experiment, as_of, ()), as_of_us=as_of, max_file=7, derive_arms=derive_arms)


def queries() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return every query of an analysis: name -> (SQL, parameters)."""
    plain, summed = scan(), scan(population={"per_request": "sum"}, unit="request")
    first = scan(derive_arms=True, population={"per_request": "first"}, unit="user")
    active = plain.active(THRESHOLDS)
    past = scan(metrics=COVARIATES)
    past_sum = scan(metrics=COVARIATES, population={"per_request": "sum"}, unit="request")
    past_count = scan(metrics=[COVARIATES[4]], population={"per_request": "first"}, unit="user")
    return {
        "exposure": plain.exposure(),
        "exposure_sum": summed.exposure(),
        "exposure_first_by_manifest": first.exposure(),
        "arms_in_logs": plain.arms_in_logs(),
        "unit_metric": plain.unit_metric(THRESHOLDS),
        "cell_sums": (plain.cell_sums(active), {}),
        "pair_moments": (plain.pair_moments(active[:2]), {}),
        "history": past.history(),
        "history_sum": past_sum.history(),
        "history_without_columns": past_count.history(),
        "unit_metric_covariate": past.unit_metric(THRESHOLDS),
        "cell_sums_covariate": (past.cell_sums([0, 5]), {}),
        "pair_moments_covariate": (past.pair_moments([0, 5]), {}),
        "first_event": (plain.first_event([0, 1], absence=[1]), {}),
        "histogram": (fill("histogram", value="v5"), {"resolution": 200}),
        "warm_up_cutoff": (fill("warm_up_cutoff"), {"control": "baseline", "units": 200}),
        "warm_up_moments": (plain.warm_up_moments(), {"control": "baseline", "cutoff": 1}),
        "warm_up_histogram": (
            fill("warm_up_histogram", value="v5"),
            {"control": "baseline", "cutoff": 1, "resolution": 200},
        ),
        "population_counts": plain.named("population_counts"),
        "stage_counts": plain.named("stage_counts"),
        "assignment_counts": plain.named("assignment_counts"),
        "contamination": plain.named("contamination"),
        "arm_counts": (fill("arm_counts"), {}),
        "manifest": manifest_query(plain),
        "newest": (fill("newest"), {}),
    }


def as_text(query: tuple[str, dict[str, Any]]) -> str:
    """Return the query as its snapshot: parameters first, then the SQL."""
    sql, params = query
    head = "".join(f"-- ${name} = {json.dumps(value)}\n" for name, value in sorted(params.items()))
    return f"{head}{sql.rstrip()}\n"
