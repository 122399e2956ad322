"""First-crossing probabilities of a Brownian motion that is looked at a finite number of times.

With f_0 the point mass at 0 and looks at information times t_1 < t_2 < ..., the density of the paths that have not yet
left the region is f_k(x) = ∫ f_{k-1}(u) φ((x - u - θ dt) / √dt) / √dt du over the continuation region of look k - 1.
The probability to leave first at look k is the mass that the next step carries over the bound.

Source: Armitage, McPherson and Rowe (1969); Jennison and Turnbull (2000), chapter 19.
The integrals use 8-point Gauss-Legendre panels, at most two steps of the walk wide, and a kernel cut where it is below
1e-16 of the result, so that cost grows with the number of nodes and not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from abtest.errors import InvalidInputError

Floats = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_TAIL = 8.5  # standard deviations kept where no bound cuts the region; the rest holds 1e-17
_SHORTEST = 1e-6  # two looks closer than this share of the information count as this far apart
_CHUNK = 2_000_000  # kernel entries held at once


@dataclass(frozen=True)
class Walk:
    """The paths still inside the region after a look.

    Attributes:
        time: Information of the look.
        nodes: Values of the Brownian motion, ascending; shape (n,).
        mass: Probability carried by each node; shape (n,); its sum is the probability to be still inside.
    """

    time: float
    nodes: Floats
    mass: Floats

    def above(self, time: float, z: float, drift: float = 0.0) -> float:
        """Return the probability to be inside until now and above `z` (z-scale) at `time`."""
        return float(self.mass @ ndtr((self.nodes + drift * (time - self.time) - z * np.sqrt(time)) / self._step(time)))

    def below(self, time: float, z: float, drift: float = 0.0) -> float:
        """Return the probability to be inside until now and below `z` (z-scale) at `time`."""
        return float(self.mass @ ndtr((z * np.sqrt(time) - self.nodes - drift * (time - self.time)) / self._step(time)))

    def _step(self, time: float) -> float:
        return float(np.sqrt(max(time - self.time, _SHORTEST * time)))

    def advance(
        self,
        time: float,
        lower: float,
        upper: float,
        *,
        drift: float = 0.0,
        next_time: float | None = None,
        reach: float = 0.0,
    ) -> Walk:
        """Return the paths that are between `lower` and `upper` (z-scale) at `time`.

        Args:
            time: Information of the look, above `self.time`.
            lower: Lower bound on the z-scale; -inf for none.
            upper: Upper bound on the z-scale; inf for none.
            drift: Drift of the Brownian motion per unit of information.
            next_time: Information of the following look; sets the resolution of the grid.
            reach: Largest |z| any later bound will ask about, so that far tails keep their relative accuracy.
        """
        root, step = float(np.sqrt(time)), self._step(time)
        far = max(_TAIL, reach + 2.0)
        bottom, top = max(lower * root, drift * time - far * root), min(upper * root, drift * time + far * root)
        if top <= bottom or not self.nodes.size:
            return Walk(time, np.empty(0), np.empty(0))
        ahead = step if next_time is None else float(np.sqrt(max(next_time - time, _SHORTEST * next_time)))
        panels = int(np.ceil((top - bottom) / (2.0 * min(step, ahead))))
        width = (top - bottom) / panels
        middle = bottom + width * (np.arange(panels) + 0.5)
        nodes = (middle[:, None] + 0.5 * width * _NODES).ravel()
        weights = np.tile(0.5 * width * _WEIGHTS, panels)
        band = step * (_TAIL + far * step / root)
        return Walk(time, nodes, weights * self._density(nodes, drift * (time - self.time), step, band))

    def _density(self, points: Floats, shift: float, step: float, band: float) -> Floats:
        """Return the density of the walk at `points` after one step of standard deviation `step`."""
        moved = self.nodes + shift
        first = np.searchsorted(moved, points - band)
        width = int(np.max(np.searchsorted(moved, points + band) - first, initial=1))
        width = min(width, moved.size)
        first = np.minimum(first, moved.size - width)
        density = np.empty(points.size)
        offsets = np.arange(width)
        for begin in range(0, points.size, max(1, _CHUNK // width)):
            rows = slice(begin, begin + max(1, _CHUNK // width))
            index = first[rows, None] + offsets
            distance = (points[rows, None] - moved[index]) / step
            density[rows] = np.einsum("ij,ij->i", np.exp(-0.5 * distance * distance), self.mass[index])
        return density / (step * np.sqrt(2.0 * np.pi))


START = Walk(0.0, np.zeros(1), np.ones(1))


class Crossings(NamedTuple):
    """First-crossing probabilities, one a look: through the upper bound, through the lower bound."""

    upper: Floats
    lower: Floats


def check_times(times: ArrayLike) -> Floats:
    """Return information times as a float array; they must be finite, positive and ascending."""
    array = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if (
        array.ndim != 1
        or not array.size
        or not np.all(np.isfinite(array))
        or array[0] <= 0
        or np.any(np.diff(array) <= 0)
    ):
        raise InvalidInputError(
            "information times must be positive and strictly ascending", hint="for example [0.2, 0.4, 0.6, 0.8, 1.0]"
        )
    return array


def _bounds(values: ArrayLike | None, looks: int, default: float) -> Floats:
    array = (
        np.full(looks, default) if values is None else np.broadcast_to(np.asarray(values, dtype=np.float64), (looks,))
    )
    if np.any(np.isnan(array)):
        raise InvalidInputError("a boundary is NaN", hint="use inf where there is no bound at a look")
    return array


def crossings(
    times: ArrayLike, upper: ArrayLike | None, lower: ArrayLike | None = None, *, drift: float = 0.0
) -> Crossings:
    """Return the probability to leave first at each look, apart for the two bounds.

    Args:
        times: Information times of the looks, ascending; shape (looks,).
        upper: Upper bounds on the z-scale (B(t) / √t), inf where there is none; shape (looks,) or one number.
        lower: Lower bounds on the z-scale, -inf where there is none; None for a one-sided boundary.
        drift: Mean of B(t) per unit of information; at information 1 the z-score then has mean `drift`.

    Returns:
        Two arrays of shape (looks,). Where the bounds touch or cross, every path leaves.

    Raises:
        InvalidInputError: Times that do not ascend, a NaN among the bounds.
    """
    t = check_times(times)
    high, low = _bounds(upper, t.size, np.inf), _bounds(lower, t.size, -np.inf)
    finite = np.abs(np.concatenate([high, low]))
    reach = float(np.max(finite[np.isfinite(finite)], initial=0.0))
    up, down = np.zeros(t.size), np.zeros(t.size)
    walk = START
    for k, time in enumerate(t):
        if not walk.nodes.size:
            break
        # Where the bounds cross, the upper one is served first, so that no path counts twice.
        up[k] = walk.above(time, high[k], drift)
        down[k] = walk.below(time, min(low[k], high[k]), drift)
        if k + 1 < t.size:
            walk = walk.advance(time, low[k], high[k], drift=drift, next_time=t[k + 1], reach=min(reach, 40.0))
    return Crossings(up, down)


def crossing_probabilities(
    times: ArrayLike, upper: ArrayLike | None, lower: ArrayLike | None = None, *, drift: float = 0.0
) -> Floats:
    """Return the probability that a Brownian motion first leaves the region at each look.

    The sum over the looks is the probability to cross at all: the false-alarm probability when `drift` is 0.

    Args:
        times: Information times of the looks, ascending; shape (looks,).
        upper: Upper bounds on the z-scale; shape (looks,) or one number.
        lower: Lower bounds on the z-scale; None for a one-sided boundary.
        drift: Mean of B(t) per unit of information.

    Returns:
        Shape (looks,); crossings of either bound together. `crossings` keeps them apart.
    """
    both = crossings(times, upper, lower, drift=drift)
    return both.upper + both.lower
