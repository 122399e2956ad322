"""Golden queries with their judgements, and what each index retrieved for them: from rows to arrays.

Exact rules: a judged document with a grade above 0 is relevant, every other one is not. A golden query that a run does not
answer has an empty list and scores 0. A document that stands in a list twice keeps its second place and gains nothing
there. A query without a relevant document is in no mean; it is counted. Queries that are not golden are left out, counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from abtest.errors import LogReadError
from abtest.ingest.cells import parsed
from abtest.lineage.index_files import Export, Row, RowError, number, text
from abtest.stats.ranking import NOTHING, first_places

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

_Placed = tuple[tuple[float, float], str]
"""A document with what it is sorted by: rank, then score downwards."""


@dataclass
class Golden:
    """The golden set: query -> document -> grade; negative grades (spam) count as 0."""

    grades: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take in a row: `query_id` with `relevant` ({doc: grade} or [doc, ...]), or with `doc_id` and maybe `relevance`."""
        query = text(row, "query_id", needed=True) or ""
        known = self.grades.setdefault(query, {})
        relevant = parsed(row.get("relevant"))
        for doc, judged in _judgements(row, relevant):
            grade = max(judged, 0.0)
            if known.setdefault(doc, grade) != grade:
                raise RowError(
                    f"document {doc!r} of query {query!r} is judged twice, with grades {known[doc]:g} and {grade:g}"
                )

    @property
    def judged(self) -> list[str]:
        """Queries with a relevant document, in order."""
        return sorted(q for q, docs in self.grades.items() if any(g > 0 for g in docs.values()))

    @property
    def empty(self) -> list[str]:
        """Queries without one."""
        return sorted(set(self.grades) - set(self.judged))


def _judgements(row: Row, relevant: Any) -> Iterator[tuple[str, float]]:
    if isinstance(relevant, Mapping):
        for doc, grade in relevant.items():  # pyright: ignore[reportUnknownVariableType]
            if (
                found := number({"grade": grade}, "grade")
            ) is not None:  # Parquet fills a struct's other keys with nulls
                yield str(doc), found  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(relevant, (list, tuple)):
        for doc in relevant:  # pyright: ignore[reportUnknownVariableType]
            yield text({"doc_id": doc}, "doc_id", needed=True) or "", 1.0
    elif relevant is not None:
        raise RowError("relevant must be a list of documents, or an object of grades")
    elif "doc_id" in row:
        grade = number(row, "relevance")
        yield text(row, "doc_id", needed=True) or "", 1.0 if grade is None else grade


def read_golden(export: Export) -> Golden:
    """Read a golden set; raises LogReadError for a row that cannot be used: each one counts."""
    golden = Golden()
    for row in export:
        try:
            golden.add(row)
        except RowError as error:
            export.reject(error)
    export.check()
    return golden


@dataclass
class Run:
    """What one index retrieved.

    Attributes:
        name: For people.
        lists: Query -> documents in rank order.
        latency: Query -> milliseconds.
        cost: Query -> dollars.
    """

    name: str
    lists: dict[str, list[str]] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)


def read_run(export: Export, name: str) -> Run:
    """Read a run: `query_id` with `ids` in rank order, or a row a document with `doc_id` and `rank` or `score`; or TREC.

    A row a document: by rank, then by score downwards, then as they stand. TREC: by score downwards, ties by document
    downwards, as trec_eval does; its rank column is not used.

    Raises:
        LogReadError: a row that cannot be used: each one counts.
    """
    run, single = Run(name), dict[str, list[_Placed]]()
    for row in export:
        try:
            query = text(row, "query_id", needed=True) or ""
            if "ids" in row:
                if query in run.lists:
                    raise RowError(f"query {query!r} stands there twice")
                run.lists[query] = _ids(row)
            else:
                _add_document(row, single.setdefault(query, []), trec=export.trec)
            _add_numbers(run, query, row)
        except RowError as error:
            export.reject(error)
    export.check()
    for query, found in single.items():
        if query in run.lists:
            raise LogReadError(f"query {query!r} has a list and single documents", file=export.name, hint="one of both")
        run.lists[query] = _in_order(found, trec=export.trec)
    return run


def _in_order(found: list[_Placed], *, trec: bool) -> list[str]:
    """Return documents in rank order; of equal keys the file's order, in TREC files the later document name first."""
    ties = sorted(found, key=lambda placed: placed[1], reverse=True) if trec else found
    return [doc for _, doc in sorted(ties, key=lambda placed: placed[0])]


def _ids(row: Row) -> list[str]:
    ids = parsed(row.get("ids"))
    if not isinstance(ids, (list, tuple)):
        raise RowError("ids must be a list of documents, the best first")
    return [text({"ids": doc}, "ids", needed=True) or "" for doc in ids]  # pyright: ignore[reportUnknownVariableType]


def _add_document(row: Row, found: list[_Placed], *, trec: bool) -> None:
    doc = text(row, "doc_id", needed=True) or ""
    rank, score = None if trec else number(row, "rank"), number(row, "score")
    if trec and score is None:
        raise RowError("score is missing")
    found.append(((math.inf if rank is None else rank, math.inf if score is None else -score), doc))


def _add_numbers(run: Run, query: str, row: Row) -> None:
    for key, known in (("latency_ms", run.latency), ("cost_usd", run.cost)):
        value = number(row, key)
        if value is not None:
            if value < 0:
                raise RowError(f"{key} must not be negative")
            known.setdefault(query, value)


@dataclass(frozen=True)
class Lists:
    """A run on the golden queries, as arrays of the first k places.

    Attributes:
        ids: Document numbers, `NOTHING` in empty places; shape (Q, k).
        gains: Grades, 0 for repeated documents; shape (Q, k).
        missing: Golden queries without an answer.
        repeated: Places that hold a document a second time.
    """

    ids: Ids
    gains: Array
    missing: int
    repeated: int


@dataclass
class Numbering:
    """Gives documents numbers that all runs of a comparison share."""

    golden: Golden
    queries: Sequence[str]
    k: int
    numbers: dict[str, int] = field(default_factory=dict)

    def grades(self) -> tuple[Array, Array]:
        """Return the judged grades, shape (Q, M), and how many are above 0, shape (Q,)."""
        lists = [[g for g in self.golden.grades[q].values() if g > 0] for q in self.queries]
        width = max((len(each) for each in lists), default=0)
        grades = np.array([each + [0.0] * (width - len(each)) for each in lists]).reshape(len(lists), width)
        return grades, np.sum(grades > 0, axis=1).astype(np.float64)

    def lists(self, run: Run) -> Lists:
        """Return a run's lists as arrays."""
        ids = np.full((len(self.queries), self.k), NOTHING, dtype=np.int64)
        gains = np.zeros(ids.shape)
        for row, query in enumerate(self.queries):
            known = self.golden.grades[query]
            for place, doc in enumerate(run.lists.get(query, ())[: self.k]):
                ids[row, place] = self.numbers.setdefault(doc, len(self.numbers))
                gains[row, place] = known.get(doc, 0.0)
        first = first_places(ids)
        missing = sum(not run.lists.get(query) for query in self.queries)
        return Lists(ids, np.where(first, gains, 0.0), missing, int(np.sum((ids != NOTHING) & ~first)))
