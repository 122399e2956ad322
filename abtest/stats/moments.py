"""Count, means and centred co-moments of several columns, and the one formula for mean, ratio, proportion and CUPED.

One row is one independent unit (a user). A mean is a ratio whose denominator is 1, a proportion is a mean of 0 and 1,
a row-level mean with clustered rows is the ratio of the unit's sum to its number of rows, and CUPED subtracts a
covariate: all of them are a linear combination of the columns, so one quadratic form gives every variance.

Variances never come from a sum of squares: gbstats 0.8.0 loses all digits at mean / sd = 1e9. Sources: Chan, Golub and
LeVeque (1983) for the merge; Deng, Knoblich and Lu (2018) for the ratio; Deng et al. (2013) for CUPED.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abtest.errors import InvalidInputError

Floats = NDArray[np.float64]


TOO_LARGE = "numbers beyond 1e100: their squares leave the range of floats"


def too_large(*arrays: Floats) -> bool:
    """Return whether a value is so large (1e100) that squares of it are not to be trusted to floats."""
    return any(bool(np.any(np.abs(a) > 1e100)) for a in arrays)


def _frozen(array: ArrayLike) -> Floats:
    copy = np.array(array, dtype=np.float64)
    copy.setflags(write=False)
    return copy


def _rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _split(values: Sequence[Fraction]) -> tuple[Floats, Floats]:
    """Return each value as a float and what rounding took from it."""
    rounded = [_rounded(v) for v in values]
    tails = [_rounded(v - Fraction(r)) if np.isfinite(r) else 0.0 for v, r in zip(values, rounded, strict=True)]
    return _frozen(rounded), _frozen(tails)


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of d columns over n units; merged exactly with `+`.

    Attributes:
        n: Number of units.
        mean: Column means; shape (d,).
        comoment: Centred sums of products, Σ (x_i - mean_i)(x_j - mean_j); shape (d, d).
        tail: What rounding took from `mean` (the mean is mean + tail); shape (d,). Keeps differences of means exact to
            1e-9 of the standard deviation where the mean is 1e8 standard deviations from zero.
    """

    n: int
    mean: Floats
    comoment: Floats
    tail: Floats

    @classmethod
    def empty(cls, columns: int = 1) -> Moments:
        """Return the moments of no rows: the neutral element of `+`."""
        return cls(0, _frozen(np.zeros(columns)), _frozen(np.zeros((columns, columns))), _frozen(np.zeros(columns)))

    @classmethod
    def from_arrays(cls, *columns: ArrayLike) -> Moments:
        """Return the moments of columns of equal length, one value a unit (corrected two-pass).

        Raises:
            InvalidInputError: No column, unequal lengths, or a value that is not finite.
        """
        arrays = [np.asarray(column, dtype=np.float64).ravel() for column in columns]
        if not arrays or len({a.size for a in arrays}) != 1:
            raise InvalidInputError("columns must have the same length", hint="one value per unit in each column")
        data = np.stack(arrays)
        if not np.all(np.isfinite(data)):
            raise InvalidInputError("a value is NaN or infinite", hint="drop or count missing values before")
        n = data.shape[1]
        if n == 0:
            return cls.empty(len(arrays))
        with np.errstate(over="ignore", invalid="ignore"):  # beyond 1e150: a status of the comparison says so
            mean = data.mean(axis=1)
            centred = data - mean[:, None]
            tail = centred.mean(axis=1)
            comoment = centred @ centred.T - n * np.outer(tail, tail)
        return cls(n, _frozen(mean), _frozen(comoment), _frozen(tail))

    @classmethod
    def from_sums(
        cls, n: int, sums: Sequence[float], products: Sequence[Sequence[float]], offset: Sequence[float] | None = None
    ) -> Moments:
        """Return the moments from Σ(x_i - c_i) and Σ(x_i - c_i)(x_j - c_j) around an offset c (default 0).

        The sums are turned into exact fractions first, so nothing is lost here; what the floats themselves have lost,
        because c was far from the mean, stays lost. Use `from_integer_sums` where exact sums exist.
        """
        c = [0.0] * len(sums) if offset is None else [float(v) for v in offset]
        if not all(np.isfinite(v) for v in [*sums, *c, *(p for row in products for p in row)]):
            raise InvalidInputError("a sum is NaN or infinite")
        exact = [Fraction(float(s)) for s in sums]
        moments = cls._exact(n, exact, [[Fraction(float(p)) for p in row] for row in products])
        shift = [Fraction(v) for v in c]
        mean, tail = _split([s / max(n, 1) + v for s, v in zip(exact, shift, strict=True)])
        return cls(n, mean, moments.comoment, tail)

    @classmethod
    def from_integer_sums(
        cls, n: int, sums: Sequence[int], products: Sequence[Sequence[int]], scales: Sequence[int] | None = None
    ) -> Moments:
        """Return the moments from exact integer sums of fixed-point values.

        Args:
            n: Number of units.
            sums: Σ x_i of each fixed-point column; Python integers of any size.
            products: Σ x_i x_j; shape (d, d), symmetric.
            scales: What one unit of the measurement is in fixed point (1,000,000); default 1.

        The centring is done on the integers, Σ x_i x_j - Σ x_i Σ x_j / n, and only the result becomes a float.
        """
        d = len(sums)
        unit = [1] * d if scales is None else [int(s) for s in scales]
        if len(unit) != d or len(products) != d or any(len(row) != d for row in products) or min(unit, default=1) < 1:
            raise InvalidInputError("sums of d columns need a d by d table of products, and d positive scales")
        exact = [Fraction(int(s), u) for s, u in zip(sums, unit, strict=True)]
        rows = [
            [Fraction(int(p), u * v) for p, v in zip(row, unit, strict=True)]
            for row, u in zip(products, unit, strict=True)
        ]
        return cls._exact(n, exact, rows)

    @classmethod
    def _exact(cls, n: int, sums: Sequence[Fraction], products: Sequence[Sequence[Fraction]]) -> Moments:
        d = len(sums)
        if n < 0 or len(products) != d or any(len(row) != d for row in products):
            raise InvalidInputError("sums of d columns need a d by d table of products and n >= 0")
        if n == 0:
            return cls.empty(d)
        centred = [[_rounded(products[i][j] - sums[i] * sums[j] / n) for j in range(d)] for i in range(d)]
        # Sums that were rounded before they came here may fall short of zero by that rounding, and by no more.
        if any(centred[i][i] < -1e-9 * _rounded(products[i][i]) for i in range(d)):
            raise InvalidInputError(
                "the sum of squares is smaller than the mean allows",
                hint="sum and sum of squares are of different rows",
            )
        mean, tail = _split([s / n for s in sums])
        return cls(n, mean, _frozen(centred), tail)

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of units together (Chan)."""
        if self.mean.size != other.mean.size:
            raise InvalidInputError("moments of different columns cannot be merged")
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        n = self.n + other.n
        with np.errstate(over="ignore", invalid="ignore"):
            delta = (other.mean - self.mean) + (other.tail - self.tail)
            step = self.tail + delta * (other.n / n)
            mean = self.mean + step
            tail = step - (mean - self.mean)
            comoment = self.comoment + other.comoment + np.outer(delta, delta) * (self.n * (other.n / n))
        return Moments(n, _frozen(mean), _frozen(comoment), _frozen(tail))

    def covariance(self, i: int, j: int) -> float | None:
        """Return the unbiased covariance of two columns; None below two units."""
        return float(self.comoment[i, j]) / (self.n - 1) if self.n > 1 else None

    def variance(self, i: int = 0) -> float | None:
        """Return the unbiased variance of a column; None below two units."""
        return self.covariance(i, i)

    def select(self, *columns: int) -> Moments:
        """Return the moments of some of the columns, in the order given."""
        index = list(columns)
        return Moments(
            self.n, _frozen(self.mean[index]), _frozen(self.comoment[np.ix_(index, index)]), _frozen(self.tail[index])
        )


@dataclass(frozen=True)
class Columns:
    """Which columns of a `Moments` a metric is made of.

    Attributes:
        numerator: Column of the numerator (of the value, for a mean).
        denominator: Column of the denominator; None for a mean.
        covariate: Column of the covariate's numerator; None without CUPED.
        covariate_denominator: Column of the covariate's denominator; None for a plain covariate.
    """

    numerator: int = 0
    denominator: int | None = None
    covariate: int | None = None
    covariate_denominator: int | None = None


@dataclass(frozen=True)
class Level:
    """One arm's mean or ratio.

    Attributes:
        n: Units.
        value: Mean, or ratio of means.
        variance: Variance of one unit's influence; the squared standard error is variance / n.
        tail: What rounding took from `value`.
    """

    n: int
    value: float
    variance: float
    tail: float = 0.0

    @property
    def se2(self) -> float:
        """Squared standard error."""
        return self.variance / self.n


@dataclass(frozen=True)
class _Linear:
    """A mean or ratio as value and gradient: one unit's influence is coefficients · (row - mean)."""

    value: float
    tail: float
    coefficients: Floats


def _linearise(m: Moments, numerator: int, denominator: int | None) -> _Linear | None:
    a = np.zeros(m.mean.size)
    if denominator is None:
        a[numerator] = 1.0
        return _Linear(float(m.mean[numerator]), float(m.tail[numerator]), a)
    y = float(m.mean[denominator]) + float(m.tail[denominator])
    if y == 0.0:
        return None
    ratio = (float(m.mean[numerator]) + float(m.tail[numerator])) / y
    a[numerator] = 1.0 / y
    a[denominator] = float(a[denominator]) - ratio / y
    return _Linear(ratio, 0.0, a)


def _quadratic(m: Moments, a: Floats, b: Floats) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(a @ m.comoment @ b)


def cuped_theta(arms: Sequence[Moments], columns: Columns) -> float | None:
    """Return CUPED's coefficient, pooled within the arms: θ = Σ C_xy / Σ V_x over the arms.

    Numerator and covariate may both be ratios; both are linearised per arm first. One arm in the list gives Lin's
    per-arm coefficient. None when the covariate does not vary or a denominator is zero.
    """
    if columns.covariate is None:
        raise InvalidInputError("CUPED needs a covariate column")
    xy = xx = 0.0
    for m in arms:
        y = _linearise(m, columns.numerator, columns.denominator)
        x = _linearise(m, columns.covariate, columns.covariate_denominator)
        if y is None or x is None:
            return None
        xy += _quadratic(m, x.coefficients, y.coefficients)
        xx += _quadratic(m, x.coefficients, x.coefficients)
    return xy / xx if xx > 0 else None


def covariate_level(m: Moments, columns: Columns) -> float | None:
    """Return the covariate's mean or ratio; None when its denominator is zero."""
    if columns.covariate is None:
        raise InvalidInputError("CUPED needs a covariate column")
    x = _linearise(m, columns.covariate, columns.covariate_denominator)
    return None if x is None else x.value + x.tail


def level(m: Moments, columns: Columns | None = None, *, theta: float = 0.0, centre: float = 0.0) -> Level | None:
    """Return one arm's mean or ratio with its variance; the one formula for all of them.

    value = X̄/Ȳ - θ (C̄/D̄ - centre), variance = aᵀ Σ a with a the gradient of that value [Deng, Knoblich, Lu 2018].

    Args:
        m: The arm's moments; one row a unit.
        columns: Which columns make the metric; default: the mean of column 0.
        theta: CUPED's coefficient; 0 for none.
        centre: The covariate's common level (cancels in a difference).

    Returns:
        None below two units or with a zero denominator.
    """
    c = columns or Columns()
    if m.n < 2:
        return None
    y = _linearise(m, c.numerator, c.denominator)
    if y is None:
        return None
    value, tail, a = y.value, y.tail, y.coefficients
    if c.covariate is not None and theta != 0.0:
        x = _linearise(m, c.covariate, c.covariate_denominator)
        if x is None:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            a = a - theta * x.coefficients
        tail = tail - theta * ((x.value - centre) + x.tail)
        value, tail = value + tail, tail - ((value + tail) - value)
    return Level(m.n, value, max(_quadratic(m, a, a), 0.0) / (m.n - 1), tail)
