"""The simulated experiments that every peer and we ourselves are run on: drawn once, written to a file, read by all."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Data:
    """One set of experiments.

    Attributes:
        path: The file with the arrays, for processes of other environments.
        arrays: `looks` (units seen at each look) and, by scenario ("null", "effect", ...), counts at each look.
        alpha: Level of the test.
        unit: What stops are counted in, in units of the looks.
        arguments: What a worker is told besides the file and alpha.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    alpha: float
    unit: float
    arguments: dict[str, float]


def _rows(rng, runs, size, share, p_c, p_t):
    treated = rng.random((runs, size)) < share
    return treated, rng.random((runs, size)) < np.where(treated, p_t, p_c)


def _counts(treated, y, looks):
    """Return (runs, looks, 4): n_C, x_C, n_T, x_T."""
    columns = [np.cumsum(a, axis=1)[:, looks - 1] for a in (~treated, y & ~treated, treated, y & treated)]
    return np.stack(columns, axis=-1)


def _write(folder, name, arrays):
    path = Path(folder) / f"{name}.npz"
    np.savez(path, **arrays)
    return path


def proportions(folder, runs, seed=401):
    """A success rate of 30 %, with the effect 40 %, half and half; 70 looks to four times the fixed sample of 706."""
    rng, fixed = np.random.default_rng(seed), 706
    looks = 40 * np.arange(1, 71)
    arrays = {"looks": looks}
    for name, p_t in (("null", 0.3), ("effect", 0.4)):
        treated, y = _rows(rng, runs, int(looks[-1]), 0.5, 0.3, p_t)
        arrays |= {f"{name}_treated": treated, f"{name}_y": y, f"{name}_counts": _counts(treated, y, looks)}
    return Data(_write(folder, "proportions", arrays), arrays, 0.05, fixed, {"tuning": fixed})


def events(folder, runs, seed=402):
    """Refusals of requests, 10 % of them in treatment, alpha 1 %: 0.5 % in both arms, against 5 %, and 0 % against 5 %."""
    rng, share = np.random.default_rng(seed), 0.1
    looks = 20 * np.arange(1, 201)
    arrays = {"looks": looks}
    for name, p_c, p_t in (("null", 0.005, 0.005), ("effect", 0.005, 0.05), ("zero", 0.0, 0.05)):
        arrays[f"{name}_counts"] = _counts(*_rows(rng, runs, int(looks[-1]), share, p_c, p_t), looks)
    return Data(_write(folder, "events", arrays), arrays, 0.01, 1, {"share": share})


def sample_ratio(folder, runs, seed=403):
    """2,000 units a day for 30 days, promised half and half: kept, and 51/49; alpha 1 %."""
    rng, days = np.random.default_rng(seed), np.arange(1, 31)
    arrays = {"looks": days}
    for name, p in (("null", 0.5), ("effect", 0.51)):
        x = np.cumsum(rng.binomial(2000, p, size=(runs, 30)), axis=1)
        arrays[f"{name}_units"] = np.stack([2000 * days - x, x], axis=-1)
    return Data(_write(folder, "sample_ratio", arrays), arrays, 0.01, 1, {})
