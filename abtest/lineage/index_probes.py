"""Do vectors still come from the model that made the index? Pinned probes over time, and documents embedded anew.

A text embedded twice by one model gives the same direction: cosine 1 up to rounding. Another model, or another version
of it, gives another direction, whatever its name says. So the cosine to the stored vector tells a silent change of the
provider, and, over a sample of documents embedded anew, which part of an index the model of today has made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from abtest.analysis.times import to_text
from abtest.display import format_share, format_time
from abtest.lineage.index_files import Export, Row, RowError, Vector, moment, text, vector
from abtest.lineage.index_versions import MINOR, Manifest, index_name, quoted, since_words
from abtest.results import Finding
from abtest.stats.edetector import DriftResult, detect
from abtest.stats.proportions import wilson_interval

Array = npt.NDArray[np.float64]

EPSILON = 0.01
"""A cosine below 1 - EPSILON is another direction: rounding, batching and storing as bytes stay above 0.9995 (measured)."""
RUN_LENGTH_DAYS = 365.0
"""Declared: false alarms of the detector are a year apart or more, on average."""
_WARM_UP = 5
_QUIET = 0.02  # loss (in epsilons) that always counts as normal, so that a perfect warm-up does not make noise an alarm
_STAKES = (1.0, 0.25, 1.0 / 16.0, 1.0 / 64.0)
_SHOWN = 744


@dataclass
class Probes:
    """What a probe file holds: readings of pinned texts, and documents embedded anew."""

    readings: list[tuple[int, str, Vector, Vector | None]] = field(default_factory=list)
    samples: dict[str, tuple[Vector, str | None, Vector | None]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take in a row: with `probe_id` and `ts` a reading, with `id` a sample; raises RowError."""
        fresh, stored = vector(row, "vector", needed=True), vector(row, "stored_vector")
        assert fresh is not None
        if (probe := text(row, "probe_id")) is not None:
            at = moment(row, "ts")
            if at is None:
                raise RowError("ts is missing: a probe has a time")
            self.readings.append((at, probe, fresh, stored))
        elif (name := text(row, "id")) is not None:
            self.samples[name] = (fresh, text(row, "source_sha256"), stored)
        else:
            raise RowError("probe_id (a pinned text) or id (a document embedded anew) is missing")

    @property
    def wanted(self) -> frozenset[str]:
        """Documents whose stored vectors are needed."""
        return frozenset(self.samples) | {probe for _, probe, _, stored in self.readings if stored is None}


def read_probes(export: Export) -> Probes:
    """Read a probe file; rows that cannot be used are counted in the export."""
    probes = Probes()
    for row in export:
        try:
            probes.add(row)
        except RowError as error:
            export.reject(error)
    return probes


def cosine(a: Vector, b: Vector) -> float | None:
    """Return the cosine of two vectors; None when they have different sizes."""
    if a.size != b.size:
        return None
    x, y = a.astype(np.float64), b.astype(np.float64)
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # huge and tiny numbers must not leave the floats
    return float(np.clip(x @ y / math.sqrt(float(x @ x) * float(y @ y)), -1.0, 1.0))


# --- documents embedded anew -------------------------------------------------------------------------------------------


def sample_report(probes: Probes, manifest: Manifest, epsilon: float) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Compare documents embedded anew with their stored vectors: which part of the index has the model of today made?

    Returns:
        The JSON part (None without samples): compared, fitting, share of the index that fits with its Wilson interval
        (95 %, for a random sample), mean cosines of both groups, and what could not be compared; and the findings.
    """
    if not probes.samples:
        return None, []
    cosines: list[float] = []
    skipped = {"not_in_index": 0, "several_vectors": 0, "source_changed": 0, "other_size": 0}
    for name, (fresh, source, given) in sorted(probes.samples.items()):
        stored = given if given is not None else manifest.vectors.get(name)
        hashes = manifest.hashes.get(name, set())
        if stored is None:
            skipped["not_in_index"] += 1
        elif given is None and name in manifest.repeated:
            skipped["several_vectors"] += 1
        elif source is not None and hashes and source not in hashes:
            skipped["source_changed"] += 1
        elif (found := cosine(fresh, stored)) is None:
            skipped["other_size"] += 1
        else:
            cosines.append(found)
    fits = [c for c in cosines if c >= 1.0 - epsilon]
    others = [c for c in cosines if c < 1.0 - epsilon]
    interval = wilson_interval(len(fits), len(cosines)) if cosines else None
    report = {
        "index_id": manifest.index_id, "compared": len(cosines), "fits": len(fits), "share": _share(len(fits), len(cosines)),
        "share_lower": interval[0] if interval else None, "share_upper": interval[1] if interval else None,
        "cosine_fits": _mean(fits), "cosine_others": _mean(others), "threshold": 1.0 - epsilon, **skipped,
    }  # fmt: skip
    return report, _sample_findings(report, manifest)


def _sample_findings(report: Mapping[str, Any], manifest: Manifest) -> list[Finding]:
    n, fits, name = report["compared"], report["fits"], index_name(manifest.index_id)
    found: list[Finding] = []
    if report["other_size"]:
        words = f"{report['other_size']:,} documents embedded anew have vectors of another size than {name} has"
        found.append(Finding("index_dims", "error", None, words))
    if not n or fits == n:
        return found
    if not fits:
        called = (
            f", although all of it is called {quoted(next(iter(manifest.known)))}" if len(manifest.known) == 1 else ""
        )
        words = (
            f"none of {n:,} documents embedded anew fits its vector in {name} (mean cosine {report['cosine_others']:.3f}): "
            f"another model has made it{called}"
        )
        return [*found, Finding("index_query_mismatch", "error", None, words)]
    outliers = n - fits <= max(1.0, MINOR * n) and n >= 20
    span = f"{format_share(round(1 - report['share_upper'], 3))} to {format_share(round(1 - report['share_lower'], 3))}"
    words = (
        f"{n - fits:,} of {n:,} documents embedded anew do not fit their vector in {name} (mean cosine "
        f"{report['cosine_others']:.3f}, the others {report['cosine_fits']:.3f}): {span} of the index is from another model"
    )
    return [*found, Finding("index_mixed", "warning" if outliers else "error", None, words)]


# --- probes over time --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """One re-embedding of the pinned texts."""

    at_us: int
    cosines: tuple[float, ...]

    def below(self, epsilon: float) -> int:
        """Return how many readings are past the tolerance."""
        return sum(c < 1.0 - epsilon for c in self.cosines)

    def changed(self, epsilon: float) -> bool:
        """Tell whether most of the readings are past it."""
        return 2 * self.below(epsilon) > len(self.cosines)

    def loss(self, epsilon: float) -> float:
        """Return the mean loss of cosine, in epsilons, at most 1 a reading."""
        return float(np.mean([min((1.0 - c) / epsilon, 1.0) for c in self.cosines]))


def probe_report(
    probes: Probes, stored: Mapping[str, Vector], *, epsilon: float, days: float
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Compare the probes with their stored vectors, round by round (a round ends when a probe comes again).

    Args:
        probes: The readings.
        stored: Vectors of the index by document, for probes that carry no `stored_vector`. A probe with neither is
            compared with its own first reading.
        epsilon: A cosine below 1 - epsilon is another direction.
        days: Average days between false alarms of the detector.

    Returns:
        The JSON part (None without probes) and the findings.
    """
    if not probes.readings:
        return None, []
    read = _rounds(probes, stored, epsilon)
    rounds, drift = read.rounds, _detect(read.rounds, epsilon, days)
    report = {
        "probes": len({probe for _, probe, _, _ in probes.readings}), "readings": len(probes.readings), "rounds": len(rounds),
        "threshold": 1.0 - epsilon, **read.counts, "never_fitted": len(read.strangers),
        "detector": None if drift is None else {**drift.to_dict(), "at": to_text(_alarm(rounds, drift))},
        "series": [
            {"at": to_text(r.at_us), "readings": len(r.cosines), "below": r.below(epsilon), "median": float(np.median(r.cosines)),
             "lowest": min(r.cosines)}
            for r in rounds[-_SHOWN:]
        ],
    }  # fmt: skip
    return report, [*_strange(read), *_probe_findings(rounds, drift, epsilon, read.counts)]


@dataclass
class _Read:
    """Readings with their cosines.

    Attributes:
        rounds: Of the probes that fitted their reference at least once, or that carry their own stored vector.
        counts: What the readings were compared with.
        of_index: Probes that were compared with the index.
        strangers: Those of them that never fitted, with their mean cosine: their vectors in the index are of another model.
    """

    rounds: list[Round]
    counts: dict[str, int]
    of_index: set[str]
    strangers: dict[str, float]


def _rounds(probes: Probes, stored: Mapping[str, Vector], epsilon: float) -> _Read:
    first: dict[str, Vector] = {}
    counts = {"with_stored_vector": 0, "with_own_first": 0, "other_size": 0}
    readings: list[tuple[int, str, float]] = []
    of_index: dict[str, list[float]] = {}
    for at, probe, fresh, given in sorted(probes.readings, key=lambda r: (r[0], r[1])):
        reference = given if given is not None else stored.get(probe)
        counts["with_stored_vector" if reference is not None else "with_own_first"] += 1
        found = cosine(fresh, first.setdefault(probe, fresh) if reference is None else reference)
        if found is None:
            counts["other_size"] += 1
            continue
        readings.append((at, probe, found))
        if given is None and reference is not None:
            of_index.setdefault(probe, []).append(found)
    strangers = {p: float(np.mean(c)) for p, c in of_index.items() if max(c) < 1.0 - epsilon}
    rounds: list[tuple[int, dict[str, float]]] = []
    for at, probe, found in readings:
        if probe in strangers:
            continue
        if not rounds or probe in rounds[-1][1]:
            rounds.append((at, {}))
        rounds[-1][1][probe] = found
    return _Read([Round(at, tuple(v.values())) for at, v in rounds], counts, set(of_index), strangers)


def _detect(rounds: Sequence[Round], epsilon: float, days: float) -> DriftResult | None:
    """Run the e-detector over the rounds after the warm-up, against the largest loss of the warm-up."""
    if len(rounds) <= _WARM_UP:
        return None
    losses = np.array([r.loss(epsilon) for r in rounds])
    usual = min(max(float(losses[:_WARM_UP].max()), _QUIET), 0.9)
    # A loss is never below 0, so a bet of 0.9 / usual keeps a tenth of its stake in the best case for the null.
    steps: Array = np.log1p(np.multiply.outer(losses[_WARM_UP:] - usual, 0.9 / usual * np.array(_STAKES)))
    gap_us = float(np.median(np.diff([r.at_us for r in rounds])))
    a_day = 86_400e6 / max(gap_us, 1.0)
    return detect(steps, days=max(days, 1.0 / a_day), batches_per_day=a_day)


def _alarm(rounds: Sequence[Round], drift: DriftResult) -> int | None:
    return None if drift.batch is None else rounds[_WARM_UP + drift.batch].at_us


def _probe_findings(
    rounds: Sequence[Round], drift: DriftResult | None, epsilon: float, counts: Mapping[str, int]
) -> list[Finding]:
    found: list[Finding] = []
    if counts["other_size"]:
        words = f"{counts['other_size']:,} probe readings have vectors of another size than the stored ones"
        found.append(Finding("index_dims", "error", None, words))
    changed = [r for r in rounds if r.changed(epsilon)]
    below = sum(r.below(epsilon) for r in rounds)
    alarm = _alarm(rounds, drift) if drift is not None else None
    if changed:
        found.append(_changed(rounds, changed, epsilon))
    elif below:
        readings = sum(len(r.cosines) for r in rounds)
        first = next(r.at_us for r in rounds if r.below(epsilon))
        words = (
            f"{below:,} of {readings:,} probe readings are below cosine {1 - epsilon:g}{since_words(first)}: "
            "some answers come from another model"
        )
        found.append(Finding("embedding_unstable", "error" if alarm is not None else "warning", None, words))
    elif alarm is not None and drift is not None:
        words = (
            f"probe vectors are moving away from the stored ones{since_words(alarm)} (lowest cosine {min(rounds[-1].cosines):.5f}, "
            f"still above {1 - epsilon:g}; a false alarm comes once in {drift.days:g} days or less often)"
        )
        found.append(Finding("embedding_unstable", "warning", None, words))
    return found


def _strange(read: _Read) -> list[Finding]:
    """Return what probes say that never fitted their vector in the index: not the provider changed, the index is another's."""
    if not read.strangers:
        return []
    whole = len(read.strangers) == len(read.of_index)
    words = (
        f"{len(read.strangers):,} of {len(read.of_index):,} probes never fitted their vector in the index (mean cosine "
        f"{float(np.mean(list(read.strangers.values()))):.3f}): another model has made {'it' if whole else 'a part of it'}"
    )
    return [Finding("index_query_mismatch" if whole else "index_mixed", "error", None, words)]


def _changed(rounds: Sequence[Round], changed: Sequence[Round], epsilon: float) -> Finding:
    first, back = changed[0], not rounds[-1].changed(epsilon)
    begun = " (the first round: it was so before)" if first is rounds[0] else ""
    until = f" to {format_time(to_text(changed[-1].at_us))}, then it came back" if back else ""
    words = (
        f"the embedding model changed without a word: the median cosine of the probes is {np.median(first.cosines):.3f} "
        f"(below {1 - epsilon:g}){since_words(first.at_us)}{begun}{until}"
    )
    return Finding("embedding_changed", "warning" if back else "error", None, words)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
