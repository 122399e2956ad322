"""Two sides of a comparison as sums over units, and the variance of any contrast of them.

A unit has a row on each side it was seen on; in a paired comparison on both. One formula serves both designs: a contrast is a
smooth function of the sides' totals, its variance is g' M g with g its gradient and M the products of the units' sums [Deng, Knoblich
& Lu 2018]. What pairs (or does not) is in the block of M between the sides. All of it in exact integers; floats come last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

BASELINE, TECHNIQUE = 0, 1
Column = tuple[int, str]
"""A side and the name of one of its columns."""
Gradient = Mapping[Column, Fraction]


@dataclass(frozen=True)
class Sides:
    """Totals and products of the units' sums.

    Attributes:
        units: Units of each side.
        both: Units that are on both sides.
        totals: (side, column) -> sum over units; integers in the fixed point of `scales`.
        products: Two (side, column) -> sum over units of the product.
        scales: column -> how many steps of the fixed point are one.
        largest: (side, column) -> the largest sum of one unit.
    """

    units: tuple[int, int]
    both: int
    totals: Mapping[Column, int]
    products: Mapping[tuple[Column, Column], int]
    scales: Mapping[str, int]
    largest: Mapping[Column, int] = field(default_factory=dict[Column, int])

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[str]], scales: Mapping[str, int]) -> Sides:
        """Take the rows of sql/tradeoff_moment.sql apart; a side without rows has totals of zero."""
        units, both = [0, 0], 0
        totals: dict[Column, int] = {(side, c): 0 for group in groups for c in group for side in (0, 1)}
        products: dict[tuple[Column, Column], int] = {}
        largest: dict[Column, int] = {}
        for row in rows:
            a, b = int(row["side_a"]), int(row["side_b"])
            if a == b:
                units[a] = int(row["units"])
                totals.update({(a, c): int(row[f"sum_{c}"]) for group in groups for c in group})
                largest.update({(a, c): int(row[f"max_{c}"]) for group in groups for c in group})
            else:
                both = int(row["units"])
            for group in groups:
                for c in group:
                    for d in group:
                        value = int(row[f"{c}__{d}"])
                        products[(a, c), (b, d)] = value
                        products[(b, d), (a, c)] = value
        return cls((units[0], units[1]), both, totals, products, scales, largest)

    def total(self, side: int, column: str) -> Fraction:
        """Return a sum over units in natural units."""
        return Fraction(self.totals[side, column], self.scales[column])

    def largest_share(self, side: int, column: str) -> float:
        """Return how much of a column's total comes from the unit that has most of it."""
        total = self.totals[side, column]
        return self.largest.get((side, column), 0) / total if total else 0.0

    def level(self, side: int, x: str, y: str) -> Fraction | None:
        """Return X / Y of one side, None where Y is zero."""
        below = self.total(side, y)
        return self.total(side, x) / below if below else None

    def covariance(self, g: Gradient, h: Gradient) -> Fraction:
        """Return g' M h: the covariance of two contrasts with these gradients (each sums to zero over units)."""
        total = Fraction(0)
        for a, wa in g.items():
            for b, wb in h.items():
                product = self.products.get((a, b), 0)
                if product and wa and wb:
                    total += wa * wb * Fraction(product, self.scales[a[1]] * self.scales[b[1]])
        return total

    def variance(self, g: Gradient) -> float:
        """Return g' M g, at least zero."""
        return max(float(self.covariance(g, g)), 0.0)


def ratio_gradient(sides: Sides, side: int, x: str, y: str, factor: Fraction = Fraction(1)) -> dict[Column, Fraction]:
    """Return the gradient of factor · X / Y of one side; Y must not be zero."""
    below = sides.total(side, y)
    rate = sides.total(side, x) / below
    return {(side, x): factor / below, (side, y): -factor * rate / below}


def added(*parts: Gradient) -> dict[Column, Fraction]:
    """Return the sum of gradients."""
    out: dict[Column, Fraction] = {}
    for part in parts:
        for column, weight in part.items():
            out[column] = out.get(column, Fraction(0)) + weight
    return out
