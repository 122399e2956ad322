"""gbstats: its sequential t-test at every look, its sample-ratio test at every day, and its time a call."""

import time

from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
from gbstats.models.statistics import ProportionStatistic
from gbstats.utils import check_srm
from serve import first, load, serve


def sequential(counts, alpha, tuning):
    """Return the first look at which the p-value is at most alpha; `counts` is (looks, 4): n_C, x_C, n_T, x_T."""
    config = SequentialConfig(difference_type="absolute", alpha=alpha, sequential_tuning_parameter=tuning)

    def looks():
        for n_c, x_c, n_t, x_t in counts.tolist():
            control, treatment = ProportionStatistic(n=n_c, sum=x_c), ProportionStatistic(n=n_t, sum=x_t)
            yield SequentialTwoSidedTTest(control, treatment, config).compute_result().p_value <= alpha

    return first(looks())


def proportions(data, alpha, tuning):
    arrays = load(data)
    return {
        f"sequential t-test, N* = {tuning:,}": {
            name: [sequential(run, alpha, tuning) for run in arrays[f"{name}_counts"]] for name in ("null", "effect")
        }
    }


def events(data, alpha, **_):
    arrays = load(data)
    return {
        "sequential t-test, N* = 5,000": {
            name: [sequential(run, alpha, 5000) for run in arrays[f"{name}_counts"]]
            for name in ("null", "effect", "zero")
        }
    }


def sample_ratio(data, alpha):
    arrays = load(data)
    return {
        "chi-square, read daily": {
            name: [first(check_srm(day.tolist(), [0.5, 0.5]) < alpha for day in run) for run in arrays[f"{name}_units"]]
            for name in ("null", "effect")
        }
    }


def timed(calls):
    config = SequentialConfig(difference_type="absolute", alpha=0.05, sequential_tuning_parameter=5000)
    control, treatment = ProportionStatistic(n=10_000, sum=500), ProportionStatistic(n=10_050, sum=571)
    start = time.process_time()
    for _ in range(calls):
        SequentialTwoSidedTTest(control, treatment, config).compute_result()
    return (time.process_time() - start) / calls


serve({"proportions": proportions, "events": events, "sample_ratio": sample_ratio, "time": timed})
