"""ville: its asymptotic and its betting A/B sequences, which take rows in order; read at the looks."""

from serve import first, load, serve
from ville.ab import AsymptoticABTest, BettingABTest


def proportions(data, alpha, tuning):
    arrays = load(data)
    looks = arrays["looks"] - 1
    makers = {
        f"asymptotic sequence, t_opt = {tuning:,}": lambda: AsymptoticABTest(alpha=alpha, t_opt=tuning),
        "betting sequence, grid 1,000": lambda: BettingABTest(alpha=alpha, grid=1000),
    }

    def stop(test, y, treated):
        test.fit(y.astype(float), treated.astype(float))
        return first((test.lower_[looks] > 0) | (test.upper_[looks] < 0))

    return {
        label: {
            name: [stop(make(), y, a) for y, a in zip(arrays[f"{name}_y"], arrays[f"{name}_treated"], strict=True)]
            for name in ("null", "effect")
        }
        for label, make in makers.items()
    }


serve({"proportions": proportions})
