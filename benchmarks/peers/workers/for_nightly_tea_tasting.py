"""tea-tasting on polars: one scan of the Parquet file to a row a user, then all metrics with CUPED where asked; no quantiles."""

import polars as pl
import tea_tasting as tt
from measure import peak_mb, timed
from serve import serve

CALLS = ("refused", "is_error", "format_ok", "latency_ms", "ttft_ms", "cost_usd", "input_tokens", "output_tokens")
METRICS = {
    "refusal_rate": tt.RatioOfMeans("refused", "n"),
    "error_rate": tt.RatioOfMeans("is_error", "n"),
    "format_ok": tt.RatioOfMeans("format_ok", "n"),
    "latency_mean": tt.RatioOfMeans("latency_ms", "n", "past", "past_n"),
    "ttft": tt.RatioOfMeans("ttft_ms", "n"),
    "cost": tt.RatioOfMeans("cost_usd", "n"),
    "tokens_in_a_user": tt.Mean("input_tokens"),
    "tokens_out": tt.RatioOfMeans("output_tokens", "n"),
    "cost_per_success": tt.RatioOfMeans("cost_usd", "success"),
}


def report(parquet, experiment):
    inside = pl.col("experiment_id") == experiment
    before = pl.col("experiment_id").is_null()
    users = (
        pl.scan_parquet(parquet)
        .group_by("unit_id")
        .agg(
            pl.col("variant").drop_nulls().first(),
            inside.sum().alias("n"),
            *(pl.col(c).filter(inside).sum() for c in CALLS),
            (inside & ~pl.col("is_error") & pl.col("format_ok")).sum().alias("success"),
            pl.col("latency_ms").filter(before).sum().alias("past"),
            before.sum().alias("past_n"),
        )
        .filter(pl.col("variant").is_not_null())
        .collect(engine="streaming")
    )
    results = tt.Experiment(METRICS).analyze(users, control="baseline", all_variants=True)
    rows = {f"{name} {pair[1]}": result[name] for pair, result in results.items() for name in METRICS}
    return {
        "estimates": {name: float(row.effect_size) for name, row in rows.items()},
        "errors": {name: float(row.effect_size / row.statistic) for name, row in rows.items()},
    }


def nightly(parquet, experiment):
    seconds, numbers = timed(lambda: report(parquet, experiment))
    return {"seconds": seconds, "peak": peak_mb(), **numbers}


serve({"nightly": nightly})
