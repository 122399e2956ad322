"""A notebook with pandas and scipy: read the Parquet file, group by user, delta method and Welch's test; quantiles as numbers."""

import pandas as pd
from measure import peak_mb, timed
from scipy import stats
from serve import serve

CALLS = ["refused", "is_error", "format_ok", "latency_ms", "ttft_ms", "cost_usd", "input_tokens", "output_tokens"]
RATIOS = {
    "refusal_rate": ("refused", "n"),
    "error_rate": ("is_error", "n"),
    "format_ok": ("format_ok", "n"),
    "latency_mean": ("latency_ms", "n"),
    "ttft": ("ttft_ms", "n"),
    "cost": ("cost_usd", "n"),
    "tokens_in_a_user": ("input_tokens", "one"),
    "tokens_out": ("output_tokens", "n"),
    "cost_per_success": ("cost_usd", "success"),
}


def linear(users, x, y):
    """Return the values whose mean is the ratio, a user each."""
    ratio = users[x].sum() / users[y].sum()
    return ratio + (users[x] - ratio * users[y]) / users[y].mean()


def report(parquet, experiment):
    calls = pd.read_parquet(parquet, columns=["experiment_id", "unit_id", "variant", *CALLS])
    past = calls[calls["experiment_id"].isna()].groupby("unit_id")["latency_ms"].agg(["sum", "count"])
    calls = calls[calls["experiment_id"] == experiment]
    calls = calls.assign(n=1, success=(~calls["is_error"] & calls["format_ok"]).astype(int))
    users = calls.groupby(["unit_id", "variant"], sort=False)[[*CALLS, "n", "success"]].sum().reset_index("variant")
    users = users.assign(one=1).join(past)
    users[["sum", "count"]] = users[["sum", "count"]].fillna(0.0)
    arms = dict(list(users.groupby("variant")))
    control, estimates, errors = arms.pop("baseline"), {}, {}
    for arm, treated in arms.items():
        for name, (x, y) in RATIOS.items():
            a, b = linear(control, x, y), linear(treated, x, y)
            if name == "latency_mean":
                both = pd.concat([control, treated])
                theta = linear(both, x, y).cov(both["sum"]) / both["sum"].var()
                a, b = a - theta * control["sum"], b - theta * treated["sum"]
            result = stats.ttest_ind(b, a, equal_var=False)
            assert 0 <= result.pvalue <= 1
            estimates[f"{name} {arm}"] = float(b.mean() - a.mean())
            errors[f"{name} {arm}"] = float((b.mean() - a.mean()) / result.statistic)
    levels = calls.groupby("variant")["latency_ms"].quantile([0.5, 0.95, 0.99]).unstack()
    for arm in arms:
        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
            estimates[f"{name} {arm}"] = float(levels.loc[arm, q] - levels.loc["baseline", q])
    return {"estimates": estimates, "errors": errors}


def nightly(parquet, experiment):
    seconds, numbers = timed(lambda: report(parquet, experiment))
    return {"seconds": seconds, "peak": peak_mb(), **numbers}


serve({"nightly": nightly})
