"""Drift and silent swaps: the Shiryaev-Roberts e-detector, with a declared average run length between false alarms.

M_t = (M_{t-1} + 1) L_t, where L_t is the factor by which a bet on batch t multiplies its stake: every batch starts a
new bet, because nobody knows when the change will come. While nothing has changed, M grows by at most 1 a batch on
average, so an alarm at M >= A comes after A batches or more on average. Several bets (the grid of
`abtest.stats.betting`) are averaged in M.

Use it on a metric against its frozen baseline, with each unit at most once a batch. Deterministic signals (the model id
in the response, its fingerprint) come first: they need no statistics.

Source: Shin, Ramdas, Rinaldo, "E-detectors" (arXiv 2203.03532).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abtest.errors import InvalidInputError
from abtest.results import ToDict
from abtest.stats.betting import Bets, log_wealth
from abtest.stats.numerics import Array


@dataclass(frozen=True)
class DriftResult(ToDict):
    """What the detector saw.

    Attributes:
        alarm: Whether log M reached the threshold.
        batch: Index of the first batch that did; None without an alarm.
        log_m: log M after the last batch.
        log_threshold: log A, A = days * batches_per_day.
        days: Declared average number of days between false alarms.
        method: "shiryaev_roberts".
    """

    alarm: bool
    batch: int | None
    log_m: float
    log_threshold: float
    days: float
    method: str = "shiryaev_roberts"


def log_increments(values: npt.ArrayLike, counts: npt.ArrayLike, bets: Bets, *, baseline: float) -> Array:
    """Return log L of every batch and bet, shape (..., T, J), from histograms of the batches.

    Args:
        values: Values of the histogram's cells; shape (V,).
        counts: Units in them, one row a batch; shape (..., T, V).
        bets: Bets frozen from baseline data (`betting.bet_grid`).
        baseline: The frozen mean that the bets are against.
    """
    n = np.asarray(counts, dtype=np.float64)
    if n.ndim < 2:
        raise InvalidInputError("counts must have one row a batch")
    return log_wealth(values, n, bets, shift=baseline)


def shiryaev_roberts(increments: npt.ArrayLike, log_weights: npt.ArrayLike | None = None) -> Array:
    """Return log M after each batch, averaged over the bets.

    Args:
        increments: log L, shape (..., T, J): batches, then bets.
        log_weights: Log weights of the bets; uniform by default.

    Returns:
        Shape (..., T).

    Raises:
        InvalidInputError: NaN or infinite increments, wrong shapes.
    """
    steps = np.asarray(increments, dtype=np.float64)
    if steps.ndim < 2 or not np.isfinite(steps).all():
        raise InvalidInputError("increments must be finite, with batches and bets as the last two axes")
    size = steps.shape[-1]
    w = np.full(size, -math.log(size)) if log_weights is None else np.asarray(log_weights, dtype=np.float64)
    if w.shape != (size,):
        raise InvalidInputError("log_weights must have one number a bet")
    w = w - np.logaddexp.reduce(w)
    path = np.empty(steps.shape[:-1])
    state = np.full((*steps.shape[:-2], size), -np.inf)
    for t in range(steps.shape[-2]):
        state = np.logaddexp(state, 0.0) + steps[..., t, :]
        path[..., t] = np.logaddexp.reduce(state + w, axis=-1)
    return path


def detect(
    increments: npt.ArrayLike, *, days: float, batches_per_day: float, log_weights: npt.ArrayLike | None = None
) -> DriftResult:
    """Return whether and when the detector alarms; a false alarm comes once in `days` days or less often, on average.

    Args:
        increments: log L of one series, shape (T, J).
        days: Average run length to declare, > 0.
        batches_per_day: How often a batch closes (24 for hours).
        log_weights: Log weights of the bets.

    Raises:
        InvalidInputError: fewer than one batch in the declared run length, or a bad series.
    """
    run_length = days * batches_per_day
    if not (math.isfinite(run_length) and run_length >= 1):
        raise InvalidInputError("days * batches_per_day must be at least 1", hint="for example days=365")
    steps = np.asarray(increments, dtype=np.float64)
    if steps.ndim != 2:
        raise InvalidInputError("detect takes one series", hint="use shiryaev_roberts for many")
    path = shiryaev_roberts(steps, log_weights)
    hits = np.flatnonzero(path >= math.log(run_length))
    return DriftResult(
        alarm=bool(hits.size),
        batch=int(hits[0]) if hits.size else None,
        log_m=float(path[-1]) if path.size else -math.inf,
        log_threshold=math.log(run_length),
        days=float(days),
    )
