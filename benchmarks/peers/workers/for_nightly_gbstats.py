"""gbstats: one SQL a metric (DuckDB on the Parquet file stands for the warehouse), then its test for every pair of arms."""

import duckdb
from gbstats.frequentist.tests import FrequentistConfig, TwoSidedTTest
from gbstats.models.statistics import (
    QuantileClusteredStatistic,
    RatioStatistic,
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
    compute_theta,
)
from measure import peak_mb, timed
from serve import serve

RATIOS = {
    "refusal_rate": ("refused::int", "1"),
    "error_rate": ("is_error::int", "1"),
    "format_ok": ("format_ok::int", "1"),
    "ttft": ("ttft_ms", "1"),
    "cost": ("cost_usd", "1"),
    "tokens_out": ("output_tokens", "1"),
    "cost_per_success": ("cost_usd", "(not is_error and format_ok)::int"),
}
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
CONFIG = FrequentistConfig(difference_type="absolute")


def users(x, y, parquet, where="true"):
    return f"""select unit_id, any_value(variant) as variant, sum({x}) as x, sum({y}) as y
        from read_parquet('{parquet}') e where {where} group by unit_id"""


def ratio(con, parquet, where, x, y):
    rows = con.execute(f"""select variant, count(*), sum(x), sum(x * x), sum(y), sum(y * y), sum(x * y)
        from ({users(x, y, parquet, where)}) group by variant""").fetchall()
    return {
        variant: RatioStatistic(n=n, m_statistic=SampleMeanStatistic(n=n, sum=sx, sum_squares=sxx),
                                d_statistic=SampleMeanStatistic(n=n, sum=sy, sum_squares=syy), m_d_sum_of_products=sxy)
        for variant, n, sx, sxx, sy, syy, sxy in rows
    }  # fmt: skip


def mean(con, parquet, where):
    rows = con.execute(f"""select variant, count(*), sum(x), sum(x * x)
        from ({users("input_tokens", "1", parquet, where)}) group by variant""").fetchall()
    return {variant: SampleMeanStatistic(n=n, sum=s, sum_squares=ss) for variant, n, s, ss in rows}


def adjusted(con, parquet, where):
    """CUPED; it takes sums a user, no ratios."""
    past = users("latency_ms", "1", parquet, "experiment_id is null")
    rows = con.execute(f"""select u.variant, count(*), sum(u.x), sum(u.x * u.x), sum(coalesce(p.x, 0)), sum(p.x * p.x), sum(u.x * p.x)
        from ({users("latency_ms", "1", parquet, where)}) u left join ({past}) p on p.unit_id = u.unit_id
        group by u.variant""").fetchall()
    return {
        variant: RegressionAdjustedStatistic(
            n=n, post_statistic=SampleMeanStatistic(n=n, sum=s, sum_squares=ss),
            pre_statistic=SampleMeanStatistic(n=n, sum=p, sum_squares=pp or 0.0), post_pre_sum_of_products=sp or 0.0, theta=0.0)
        for variant, n, s, ss, p, pp, sp in rows
    }  # fmt: skip


def quantile(con, parquet, where, nu):
    """A quantile over calls, clustered by user; its interval is read at the ranks of a sample of 10,000."""
    star = 10_000
    half = 1.959964 * (nu * (1 - nu) / star) ** 0.5
    levels = [nu, max(nu - half, 0.0), min(nu + half, 1.0)]
    rows = con.execute(f"""with q as (
            select variant as arm, quantile_cont(latency_ms, {levels}) as q, count(*) as n
            from read_parquet('{parquet}') e where {where} group by variant),
        u as (select unit_id, any_value(variant) as variant, sum((latency_ms <= q.q[1])::int) as x, count(*) as y
            from read_parquet('{parquet}') e join q on q.arm = e.variant where {where} group by unit_id)
        select u.variant, any_value(q.n), any_value(q.q), count(*), sum(x), sum(x * x), sum(y), sum(y * y), sum(x * y)
        from u join q on q.arm = u.variant group by u.variant""").fetchall()
    return {
        variant: QuantileClusteredStatistic(
            n=n, n_star=min(star, n), nu=nu, quantile_hat=q[0], quantile_lower=q[1], quantile_upper=q[2], main_sum=x,
            main_sum_squares=xx, denominator_sum=y, denominator_sum_squares=yy, main_denominator_sum_product=xy, n_clusters=units)
        for variant, n, q, units, x, xx, y, yy, xy in rows
    }  # fmt: skip


def report(parquet, experiment):
    where = f"experiment_id = '{experiment}'"
    with duckdb.connect() as con:
        found = {name: ratio(con, parquet, where, *xy) for name, xy in RATIOS.items()}
        found["tokens_in_a_user"] = mean(con, parquet, where)
        found["latency_total"] = adjusted(con, parquet, where)
        found |= {name: quantile(con, parquet, where, nu) for name, nu in QUANTILES.items()}
    estimates, errors = {}, {}
    for name, arms in found.items():
        control = arms["baseline"]
        for arm in sorted(set(arms) - {"baseline"}):
            if name == "latency_total":
                control.theta = arms[arm].theta = compute_theta(control, arms[arm])
            result = TwoSidedTTest(control, arms[arm], CONFIG).compute_result()
            estimates[f"{name} {arm}"] = float(result.expected)
            errors[f"{name} {arm}"] = float(result.uplift.stddev)
    return {"estimates": estimates, "errors": errors}


def nightly(parquet, experiment):
    seconds, numbers = timed(lambda: report(parquet, experiment))
    return {"seconds": seconds, "peak": peak_mb(), **numbers}


serve({"nightly": nightly})
