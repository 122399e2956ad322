"""tea-tasting: its Welch test, made for one look, read at every look."""

import tea_tasting as tt
from serve import first, load, serve
from tea_tasting.aggr import Aggregates


def arm(n, x):
    mean = x / n
    return Aggregates(count_=n, mean_={"y": mean}, var_={"y": mean * (1 - mean) * n / (n - 1)})


def proportions(data, alpha, **_):
    arrays, metric = load(data), tt.Mean("y")

    def peeked(run):
        looks = (
            metric.analyze_aggregates(arm(n_c, x_c), arm(n_t, x_t)).pvalue <= alpha
            for n_c, x_c, n_t, x_t in run.tolist()
            if 0 < x_c < n_c and 0 < x_t < n_t
        )
        skipped = sum(not (0 < x_c < n_c and 0 < x_t < n_t) for n_c, x_c, n_t, x_t in run.tolist())
        at = first(looks)
        return None if at is None else at + skipped

    return {
        "Welch test, read at every look": {
            name: [peeked(run) for run in arrays[f"{name}_counts"]] for name in ("null", "effect")
        }
    }


serve({"proportions": proportions})
