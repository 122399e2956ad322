"""Do people ask for other things than before? Drift of the distribution of query embeddings, without labels.

Batch by batch (UTC days) against a baseline (the first batch, or all queries before a moment). Reported, never holding
or halting anything by itself: other questions are no fault of a release, but they make old golden queries less telling.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from abtest.analysis.times import to_text
from abtest.display import format_pvalue
from abtest.lineage.index_files import Export, Row, RowError, Vector, moment, text, vector
from abtest.lineage.index_versions import since_words
from abtest.results import Finding
from abtest.stats.energy import Kernel, two_sample_permutation

Array = npt.NDArray[np.float64]

ALPHA = 0.01
BATCHES = 30
"""Declared number of batches that share ALPHA; later ones are measured and claim nothing: renew the baseline."""
DAY_US = 86_400_000_000
_ROWS = 300  # a side: distances are compared pair by pair
_FEWEST = 20
_GLANCE, _CLEAR = 99, 0.1  # a first look of 99 shuffles ends the test of a batch that is clearly no drift


@dataclass
class Queries:
    """What a query file holds: vectors with their time, unit and embedding version."""

    times: list[int] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    units: list[str | None] = field(default_factory=list)
    versions: Counter[str | None] = field(default_factory=Counter[str | None])

    def add(self, row: Row) -> None:
        """Take in a row with `ts` and `vector`, and maybe `unit_id` and `embedding_model_version`; raises RowError."""
        at, found = moment(row, "ts"), vector(row, "vector", needed=True)
        if at is None or found is None:
            raise RowError("ts is missing: a query has a time")
        unit, version = text(row, "unit_id"), text(row, "embedding_model_version")
        self.times.append(at)
        self.vectors.append(found)
        self.units.append(unit)
        self.versions[version] += 1


def read_queries(export: Export) -> Queries:
    """Read a query file; rows that cannot be used are counted in the export."""
    queries = Queries()
    for row in export:
        try:
            queries.add(row)
        except RowError as error:
            export.reject(error)
    return queries


@dataclass(frozen=True)
class _Batch:
    at_us: int
    points: Array
    units: tuple[str, ...]
    named: bool


def query_report(
    queries: Queries, *, kernel: Kernel = "energy", baseline_until_us: int | None = None, seed: int = 0
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Compare every day's queries with the baseline: distance by permutation, shift of the mean and of the covariance.

    Each of the first `BATCHES` batches is tested at ALPHA / BATCHES, so that over all of them together a false claim comes
    with probability at most ALPHA, however the batches depend on each other through their common baseline. Queries of one
    unit are shuffled together, and units of the baseline are left out of the later batches.

    Args:
        queries: The queries; vectors of another size than the most frequent one are left out and counted.
        kernel: "energy" (any difference) or "mmd" (local ones).
        baseline_until_us: The baseline is everything before; default: the first day.
        seed: Of samples and shuffles.

    Returns:
        The JSON part (None without queries) and the findings.
    """
    if not queries.vectors:
        return None, []
    sizes = Counter(v.size for v in queries.vectors)
    size = min(sizes, key=lambda d: (-sizes[d], d))
    found: list[Finding] = []
    if len(sizes) > 1:
        parts = ", ".join(f"{n:,} of {d}" for d, n in sorted(sizes.items(), key=lambda i: (-i[1], i[0])))
        found.append(Finding("index_dims", "error", None, f"query vectors have different sizes: {parts}"))
    baseline, batches = _cut(queries, size, baseline_until_us, np.random.default_rng(seed))
    tested = [_test(baseline, batch, number, kernel, seed) for number, batch in enumerate(batches)]
    moved = [t for t in tested if t["drift"]]
    report = {
        "queries": len(queries.vectors), "dim": size, "other_size": len(queries.vectors) - sizes[size], "kernel": kernel,
        "alpha": ALPHA, "declared_batches": BATCHES, "baseline": {"from": to_text(baseline.at_us), "rows": len(baseline.points)},
        "batches": tested,
    }  # fmt: skip
    if moved:
        first = moved[0]
        words = (
            f"the queries of {len(moved)} of {len(tested)} days differ from the baseline{since_words(batches[tested.index(first)].at_us)} "
            f"(p {format_pvalue(first['pvalue'])}, mean moved by {first['mean_shift']:.2f} standard deviations): "
            "golden queries from before may no longer speak for them"
        )
        found.append(Finding("query_drift", "info", None, words))
    return report, found


def _cut(
    queries: Queries, size: int, until_us: int | None, generator: np.random.Generator
) -> tuple[_Batch, list[_Batch]]:
    rows = sorted((t, i) for i, t in enumerate(queries.times) if queries.vectors[i].size == size)
    until = until_us if until_us is not None else (rows[0][0] // DAY_US + 1) * DAY_US
    before = [i for t, i in rows if t < until]
    days: dict[int, list[int]] = {}
    for t, i in rows:
        if t >= until:
            days.setdefault(t // DAY_US * DAY_US, []).append(i)
    known = {queries.units[i] for i in before if queries.units[i] is not None}
    baseline = _batch(queries, rows[0][0], before, generator)
    later = [
        _batch(queries, at, [i for i in members if queries.units[i] not in known], generator)
        for at, members in sorted(days.items())
    ]
    return baseline, later


def _batch(queries: Queries, at_us: int, members: Sequence[int], generator: np.random.Generator) -> _Batch:
    """Take at most 300 rows of a batch by lot; directions only: length says nothing in a cosine index."""
    chosen = (
        sorted(generator.choice(len(members), _ROWS, replace=False)) if len(members) > _ROWS else range(len(members))
    )
    rows = [members[int(i)] for i in chosen]
    points = np.array([queries.vectors[i] for i in rows], dtype=np.float64).reshape(len(rows), -1 if rows else 0)
    if rows:
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    units = [queries.units[i] for i in rows]
    # A row without a unit is one of its own.
    names = tuple(u if u is not None else f"\0{i}" for i, u in zip(rows, units, strict=True))
    return _Batch(at_us, points, names, any(u is not None for u in units))


def _test(baseline: _Batch, batch: _Batch, number: int, kernel: Kernel, seed: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "at": to_text(batch.at_us), "rows": len(batch.points), "distance": None, "pvalue": None, "mean_shift": None,
        "covariance_shift": None, "drift": False, "status": "insufficient",
    }  # fmt: skip
    if min(len(baseline.points), len(batch.points)) < _FEWEST:
        return row
    clusters = (baseline.units, batch.units) if baseline.named or batch.named else None
    level = ALPHA / BATCHES
    full = math.ceil(1.0 / level)
    for permutations in (_GLANCE, full):
        result = two_sample_permutation(
            baseline.points, batch.points, kernel=kernel, clusters=clusters, permutations=permutations, seed=seed
        )
        # A p-value above 0.1 is never a claim, so that ending here keeps every level below.
        if result.pvalue is None or result.pvalue > _CLEAR:
            break
    row |= {"distance": result.value, "pvalue": result.pvalue, "status": result.status}
    row |= _moments(baseline.points, batch.points)
    row["drift"] = number < BATCHES and result.pvalue is not None and result.pvalue <= level
    return row


def _moments(x: Array, y: Array) -> dict[str, float | None]:
    """Return the shift of the mean in standard deviations, and of the covariance relative to its size (Frobenius).

    Both are about 0 without a shift, however many dimensions there are: ||C_y - C_x||^2 is estimated from products of
    different rows only [Li and Chen 2012], the mean's square without what chance adds to it.
    """
    n, m = len(x), len(y)
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    spread = float(np.sum(a * a)) / (n - 1)
    chance = spread / n + float(np.sum(b * b)) / (m - 1) / m
    shift = float(np.sum((y.mean(axis=0) - x.mean(axis=0)) ** 2)) - chance
    own, other, both = (np.square(g) for g in (a @ a.T, b @ b.T, a @ b.T))
    size = float(own.sum() - np.trace(own)) / (n * (n - 1))
    moved = size + float(other.sum() - np.trace(other)) / (m * (m - 1)) - 2.0 * float(both.mean())
    return {
        "mean_shift": math.sqrt(max(shift, 0.0) / spread) if spread > 0.0 else None,
        "covariance_shift": math.sqrt(max(moved, 0.0) / size) if size > 0.0 else None,
    }
