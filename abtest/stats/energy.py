"""Do two samples come from the same distribution? Energy distance and maximum mean discrepancy, by permutation.

For embeddings, answer lengths, scores: differences of any shape. Exact at every sample size, because the null
distribution is made by shuffling. Shuffle whole clusters where rows of one user or prompt belong together.
Sources: Szekely and Rizzo (2013); Gretton et al. (2012); Phipson and Smyth (2010) for the p-value.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abtest.errors import InvalidInputError
from abtest.results import Estimate
from abtest.stats.moments import TOO_LARGE, too_large
from abtest.stats.multiplicity import check_level

Floats = NDArray[np.float64]
Kernel = Literal["energy", "mmd"]

_BATCH = 256  # permutations multiplied with the distance matrix at once


def _rows(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not np.all(np.isfinite(array)):
        raise InvalidInputError(f"{name} must be finite numbers of shape (n,) or (n, d)")
    return array


def _distances(points: Floats) -> Floats:
    """Return Euclidean distances, from differences: products of coordinates lose equal points."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(points, points), dtype=np.float64)


def _statistics(matrix: Floats, first: Floats) -> Floats:
    """Return Σ of the two-sample statistic for every column of 0/1 memberships; `matrix` is of distances."""
    n = first.sum(axis=0)
    m = first.shape[0] - n
    product = matrix @ first
    within_first = np.einsum("ij,ij->j", first, product)
    rows = matrix.sum(axis=1)
    across = rows @ first - within_first
    within_second = matrix.sum() - within_first - 2.0 * across
    return 2.0 * across / (n * m) - within_first / n**2 - within_second / m**2


def two_sample_permutation(
    control: ArrayLike,
    treatment: ArrayLike,
    *,
    kernel: Kernel = "energy",
    clusters: tuple[ArrayLike, ArrayLike] | None = None,
    permutations: int = 999,
    seed: int = 0,
    alpha: float = 0.05,
) -> Estimate:
    """Return a distance between two samples and its permutation p-value.

    * "energy": 2 E|X - Y| - E|X - X'| - E|Y - Y'|; no tuning, feels every difference in distribution;
    * "mmd": the same with the Gaussian kernel at the median distance; sharper for local differences.

    Args:
        control: Shape (n,) or (n, d).
        treatment: Shape (m,) or (m, d).
        kernel: See above.
        clusters: Cluster keys of the rows of both samples; clusters are shuffled whole. Every cluster must be in one
            sample only.
        permutations: How many shuffles; the smallest p-value is 1 / (permutations + 1).
        seed: Of the shuffles; the same seed gives the same p-value.
        alpha: Carried into the result.

    Returns:
        `value` is the squared distance, 0 when the samples are the same. Memory is (n + m)² numbers: take a random
        sample of a few thousand rows.
    """
    check_level(alpha)
    x, y = _rows("control", control), _rows("treatment", treatment)
    if permutations < 1 or kernel not in ("energy", "mmd"):
        raise InvalidInputError("at least one permutation is needed, and kernel energy or mmd")
    if x.shape[0] < 2 or y.shape[0] < 2:
        return Estimate.unknown("insufficient", method=kernel, alpha=alpha, note="fewer than two rows in a sample")
    if x.shape[1] != y.shape[1]:
        raise InvalidInputError("the samples have different numbers of columns")
    if too_large(x, y):
        return Estimate.unknown("unsupported", method=kernel, alpha=alpha, note=TOO_LARGE)
    matrix = _distances(np.concatenate([x, y]))
    positive = matrix[matrix > 0.0]
    if not positive.size:
        note = "all rows are the same"
        return Estimate(0.0, alpha=alpha, method=kernel, status="zero_variance", note=note)
    if kernel == "mmd":
        with np.errstate(over="ignore"):  # a distance far beyond the median: the kernel is 0
            matrix = 1.0 - np.exp(-0.5 * (matrix / float(np.median(positive))) ** 2)
    index, labels = _membership(x.shape[0], y.shape[0], clusters)
    if min(labels.sum(), labels.size - labels.sum()) < 1 or labels.size < 4:
        return Estimate.unknown("insufficient", method=kernel, alpha=alpha, note="too few clusters to shuffle")
    seen = float(_statistics(matrix, labels[index][:, None])[0])
    generator = np.random.default_rng(seed)
    larger = 0
    for begin in range(0, permutations, _BATCH):
        size = min(_BATCH, permutations - begin)
        shuffled = generator.permuted(np.tile(labels, (size, 1)), axis=1)
        # Ties with the data count as larger: rounding must not turn an equal arrangement into evidence.
        larger += int(np.sum(_statistics(matrix, shuffled[:, index].T) >= seen - 1e-12 * abs(seen)))
    pvalue = (larger + 1) / (permutations + 1)
    details = {"permutations": permutations, "seed": seed, "clusters": int(labels.size)}
    return Estimate(max(seen, 0.0), pvalue=pvalue, alpha=alpha, method=kernel, alternative="larger", details=details)


def _membership(n: int, m: int, clusters: tuple[ArrayLike, ArrayLike] | None) -> tuple[NDArray[np.intp], Floats]:
    """Return each row's cluster number, and each cluster's membership in the first sample (1.0 or 0.0)."""
    first = np.concatenate([np.ones(n), np.zeros(m)])
    if clusters is None:
        return np.arange(n + m), first
    keys = [np.asarray(c).ravel() for c in clusters]
    if keys[0].size != n or keys[1].size != m:
        raise InvalidInputError("every row needs a cluster key")
    _, index = np.unique(np.concatenate(keys), return_inverse=True)
    sizes = np.bincount(index)
    share = np.bincount(index, weights=first) / sizes
    if np.any((share > 0.0) & (share < 1.0)):
        raise InvalidInputError("a cluster is in both samples", hint="use a paired test for the same users in both")
    return index, share


def energy_distance_histogram(
    values: ArrayLike,
    control: ArrayLike,
    treatment: ArrayLike,
    *,
    permutations: int = 999,
    seed: int = 0,
    alpha: float = 0.05,
) -> Estimate:
    """Return the energy distance of two one-dimensional histograms, 2 ∫ (F - G)² dx, and its permutation p-value.

    Args:
        values: Value of each bucket, ascending; shape (b,).
        control: Control's rows per bucket; shape (b,).
        treatment: Treatment's rows per bucket; shape (b,).
        permutations: How many shuffles (multivariate hypergeometric draws; rows must be independent).
        seed: Of the shuffles.
        alpha: Carried into the result.
    """
    check_level(alpha)
    v = np.asarray(values, dtype=np.float64)
    a, b = np.asarray(control), np.asarray(treatment)
    if v.ndim != 1 or a.shape != v.shape or b.shape != v.shape or np.any(np.diff(v) <= 0.0) or permutations < 1:
        raise InvalidInputError("a histogram needs ascending values and as many counts in each arm")
    if a.dtype.kind not in "iu" or b.dtype.kind not in "iu" or np.any(a < 0) or np.any(b < 0):
        raise InvalidInputError("histogram counts must be integers not below zero")
    n, m = int(a.sum()), int(b.sum())
    method = "energy_histogram"
    if n < 2 or m < 2:
        return Estimate.unknown("insufficient", method=method, alpha=alpha, note="fewer than two rows in an arm")
    both = (a + b).astype(np.int64)
    if np.count_nonzero(both) < 2:
        return Estimate(0.0, alpha=alpha, method=method, status="zero_variance", note="all rows are the same")
    gaps = np.diff(v)
    whole = np.cumsum(both)[:-1].astype(np.float64)

    def distance(counts: NDArray[np.int64]) -> Floats:
        below = np.cumsum(counts, axis=-1)[..., :-1].astype(np.float64)
        return 2.0 * ((below / n - (whole - below) / m) ** 2 @ gaps)

    seen = float(distance(a.astype(np.int64)))
    draws = np.random.default_rng(seed).multivariate_hypergeometric(both, n, size=permutations, method="marginals")
    larger = int(np.sum(distance(draws) >= seen - 1e-12 * seen))
    details = {"permutations": permutations, "seed": seed}
    return Estimate(
        seen,
        pvalue=(larger + 1) / (permutations + 1),
        alpha=alpha,
        method=method,
        alternative="larger",
        details=details,
    )
