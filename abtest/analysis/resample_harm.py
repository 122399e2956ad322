"""Puts users into pseudo-arms, and a known harm into the treatment's.

Places are hashes of what is randomised and of the run, nested as in a ramp: a unit is in treatment while its place is below the
share. Harm changes the treatment's numbers and nothing else: bad events are added (good ones taken away) at the right rate,
numbers are scaled or shifted, values of quantiles are scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.resample import Baseline, Ints
from abtest.analysis.resample_columns import MeasureColumns
from abtest.metrics.base import MetricSpec

Floats = NDArray[np.float64]
_STEP, _A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Harm:
    """A harm of so many margins on metric number `metric`."""

    metric: int
    multiple: float


@dataclass(frozen=True)
class Bent:
    """The treatment's numerators of one measure: rows, then factor and shift of what a unit has added up.

    x' = round(factor · x) + round(shift · y), x and y the sums of a unit in a cell.
    """

    rows: Ints
    factor: float = 1.0
    shift: float = 0.0

    def of(self, x: Ints, y: Ints) -> Ints:
        """Return the numerators under the harm."""
        if self.factor == 1.0 and self.shift == 0.0:
            return x
        return np.rint(self.factor * x).astype(np.int64) + np.rint(self.shift * y).astype(np.int64)


@dataclass(frozen=True)
class Run:
    """One re-randomisation.

    Attributes:
        baseline: What is replayed.
        place: (units,) place of every unit in [0, 1).
        harm: What is wrong with the treatment; None: nothing (A/A).
        bent: Measure number -> its numerators in the treatment arm.
    """

    baseline: Baseline
    place: Floats
    harm: Harm | None = None
    bent: Mapping[int, Bent] = field(default_factory=dict)

    def treated(self, share: float) -> NDArray[np.bool_]:
        """Return (units,) whether each unit is in the treatment at this share."""
        return self.place < share


def places(baseline: Baseline, seed: int, run: int) -> Floats:
    """Return (units,) places in [0, 1): a hash (splitmix64) of the number of what is randomised, the seed and the run."""
    key = np.arange(baseline.clusters, dtype=np.uint64) + np.uint64(1)
    salt = np.random.SeedSequence([seed, run]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        z = key * _STEP + salt
        z = (z ^ (z >> np.uint64(30))) * _A
        z = (z ^ (z >> np.uint64(27))) * _B
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)[baseline.cluster]


def plain_run(baseline: Baseline, seed: int, run: int) -> Run:
    """Return a run in which the arms are the same."""
    return Run(baseline, places(baseline, seed, run))


def harmed_run(plain: Run, harm: Harm, seed: int, run: int) -> Run | None:
    """Return the same run with a harm in the treatment; None where that harm cannot be (a rate above 1)."""
    baseline, experiment = plain.baseline, plain.baseline.experiment
    bent: dict[int, Bent] = {}
    for k in (harm.metric, *experiment.parts_of(harm.metric)):
        columns = baseline.measures.get(k)
        if columns is None:
            return None
        rng = np.random.default_rng([seed, run, k, round(1000 * harm.multiple)])
        made = _bent(baseline, experiment.metrics[harm.metric], columns, harm.multiple, rng)
        if made is None:
            return None
        bent[k] = made
    return Run(baseline, plain.place, harm, bent)


def _bent(
    baseline: Baseline, spec: MetricSpec, columns: MeasureColumns, multiple: float, rng: np.random.Generator
) -> Bent | None:
    assert spec.guardrail is not None
    rows = baseline.tables[columns.table]
    x, y = rows.columns[columns.x], rows.columns[columns.y]
    if spec.kind in ("quantile", "distribution"):
        return Bent(rows.columns[columns.harmed[multiple]]) if multiple in columns.harmed else None
    margin, sign = spec.guardrail.margin, spec.sign
    size = multiple * margin.value
    if spec.kind == "proportion":
        flipped = _flipped(baseline, columns, size, sign, rng, relative=margin.kind == "relative")
        return None if flipped is None else Bent(flipped)
    if margin.kind == "relative":
        factor, shift = 1 + sign * size, 0.0
    else:
        factor, shift = 1.0, sign * size * columns.x_scale / columns.y_scale
    if spec.kind != "count":
        return None if factor < 0 else Bent(x, factor, shift)
    units = baseline.units if columns.cap_y else max(int(y.sum()), 1)
    factor = factor if margin.kind == "relative" else 1 + sign * size * units / max(int(x.sum()), 1)
    return None if factor < 0 else Bent(_thickened(x, factor, rng))


def _flipped(
    baseline: Baseline, columns: MeasureColumns, size: float, sign: int, rng: np.random.Generator, *, relative: bool
) -> Ints | None:
    """Return the events of a proportion that is worse by `size`: in points, or as a fraction of its rate."""
    rows = baseline.tables[columns.table]
    x, y = rows.columns[columns.x], rows.columns[columns.y]
    if columns.cap_x:
        had = np.bincount(rows.unit, weights=x, minlength=baseline.units) > 0
        counted = np.bincount(rows.unit, weights=y, minlength=baseline.units) > 0
        rate = float(had.sum() / max(int(counted.sum()), 1))
    else:
        rate = float(x.sum() / max(int(y.sum()), 1))
    size = size * rate if relative else size
    room = 1 - rate if sign > 0 else rate
    if room <= 0 or size > room:
        return None
    if columns.cap_x:
        # A unit counts once: whoever is chosen has it from its first row in the treatment on (or never).
        chosen = (rng.random(baseline.units) < size / room)[rows.unit]
        return np.where(chosen, y, x) if sign > 0 else np.where(chosen, 0, x)
    return x + rng.binomial(y - x, size / room) if sign > 0 else x - rng.binomial(x, size / room)


def _thickened(x: Ints, factor: float, rng: np.random.Generator) -> Ints:
    """Return counts that are `factor` times as large on average."""
    if factor < 1:
        return x - rng.binomial(x, 1 - factor)
    whole = int(factor)
    return x * whole + rng.binomial(x, factor - whole)
