"""savvi: its Poisson process test on events (k = 100, the default) and its sequential sample ratio."""

import numpy as np
from savvi.multinomial import InhomogeneousPoissonProcess, Multinomial
from serve import first, load, serve


def stop(test, batches, alpha):
    """Return the first batch after which 1/odds is at most alpha."""

    def looks():
        for batch in batches:
            test.update(batch.astype(np.int64))
            yield 1.0 / test.odds <= alpha

    with np.errstate(over="ignore"):
        return first(looks())


def events(data, alpha, share):
    arrays, shares, weights = load(data), np.array([1 - share, share]), np.array([[-1, 1]])
    return {
        "Poisson process, k = 100": {
            name: [
                stop(
                    InhomogeneousPoissonProcess(alpha, shares, weights),
                    np.diff(run[:, [1, 3]], axis=0, prepend=0),
                    alpha,
                )
                for run in arrays[f"{name}_counts"]
            ]
            for name in ("null", "effect", "zero")
        }
    }


def sample_ratio(data, alpha):
    arrays = load(data)
    return {
        f"multinomial, k = {k:,}": {
            name: [
                stop(Multinomial(alpha, np.array([0.5, 0.5]), k=k), np.diff(run, axis=0, prepend=0), alpha)
                for run in arrays[f"{name}_units"]
            ]
            for name in ("null", "effect")
        }
        for k in (100, 2000)
    }


serve({"events": events, "sample_ratio": sample_ratio})
