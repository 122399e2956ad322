"""What `index_drift` and `index_compare` answer: frozen, with a table, a picture and the JSON contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from abtest.display import Cell, Column, Table, escape_html, format_time, shorten
from abtest.errors import InvalidInputError
from abtest.lineage.index_versions import Usage
from abtest.results import Finding, ToDict

if TYPE_CHECKING:
    import polars

_TONES = {"critical": "bad", "error": "bad", "warning": "warn", "info": "muted"}


@dataclass(frozen=True)
class IndexDrift(ToDict):
    """Whether an index and its queries live in one vector space: `abtest.index_drift/1`.

    Attributes:
        status: "healthy", "drift" (an error was found) or "no_data" (nothing could be compared).
        summary: One sentence.
        findings: Everything that was found, the worst first.
        checked: Which comparisons were made, in words.
        surface: Only calls of this surface were read from the logs; None for all.
        as_of: Newest event of the logs; None without logs.
        indexes: What each index holds: versions, dims, queries compared and mismatched.
        queries: Calls by index and embedding version, from the logs.
        samples: Documents embedded anew, an index each.
        probes: Pinned texts over time; None without.
        documents: Stale, missing and orphaned documents, an index each.
        query_drift: Distribution of the query embeddings by day; None without.
        inputs: The files, with their rows and what could not be read.
        notes: What should be known besides.
        exit_code: 0 healthy, 30 mixed, mismatched or changed, 40 nothing to look at.
    """

    status: str
    summary: str
    findings: tuple[Finding, ...]
    checked: tuple[str, ...] = ()
    surface: str | None = None
    as_of: str | None = None
    indexes: tuple[Mapping[str, Any], ...] = ()
    queries: tuple[Usage, ...] = ()
    samples: tuple[Mapping[str, Any], ...] = ()
    probes: Mapping[str, Any] | None = None
    documents: tuple[Mapping[str, Any], ...] = ()
    query_drift: Mapping[str, Any] | None = None
    inputs: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    exit_code: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.index_drift/1`."""
        return {"schema": "abtest.index_drift/1", **super().to_dict()}

    def __repr__(self) -> str:
        parts = [
            self.summary,
            "\n".join(findings_lines(self.findings, self.summary)),
            self._table().to_text(),
        ]
        return "\n\n".join(part for part in (*parts, "\n".join(self.notes)) if part)

    def _repr_html_(self) -> str:
        """Show the sentence, the findings and the versions in a notebook."""
        notes = "".join(f"<p>{escape_html(note)}</p>" for note in self.notes)
        found = findings_table(self.findings).to_html(styled=True) if self.findings else ""
        return f"<p><strong>{escape_html(self.summary)}</strong></p>{found}{self._table().to_html(styled=True)}{notes}"

    def to_polars(self) -> polars.DataFrame:
        """Return a row for each embedding version of each index and of the queries to it."""
        return self._table().to_polars()

    def plot(self) -> Any:
        """Return an Altair picture: the probes over time where there are some, else the calls by embedding version.

        Raises:
            InvalidInputError: there are neither.
        """
        from abtest.charts.index import probe_cosines, query_versions

        data = self.to_dict()
        if self.probes and self.probes["series"]:
            return probe_cosines(data["probes"])
        if self.queries:
            return query_versions(data["queries"])
        raise InvalidInputError("nothing that has a time was looked at", hint="give probes, or a store with logs")

    def _table(self) -> Table:
        rows: list[dict[str, Any]] = []
        for index in self.indexes:
            rows += [
                {"index_id": index["index_id"], "side": "index", "embedding_model_version": v["embedding_model_version"],
                 "rows": v["rows"], "first": v["first_updated"], "last": v["last_updated"]}
                for v in index["versions"]
            ]  # fmt: skip
        for u in (u.to_dict() for u in self.queries):
            rows.append(
                {"index_id": u["index_id"], "side": "queries", "embedding_model_version": u["embedding_model_version"],
                 "rows": u["calls"], "first": u["first_seen"], "last": u["last_seen"]}
            )  # fmt: skip
        columns = ("index", "of", "embedding model version", Column("rows", "right"), "first", "last")
        cells = [
            [shorten(r["index_id"] or "not named", 40), r["side"], shorten(r["embedding_model_version"] or "not said", 60),
             f"{r['rows']:,}", format_time(r["first"]), format_time(r["last"])]
            for r in rows
        ]  # fmt: skip
        return Table(columns, cells, data=rows) if rows else Table(("checked",), [[c] for c in self.checked])


def findings_lines(findings: Sequence[Finding], said: str = "") -> list[str]:
    """Return findings as lines for a terminal, whole sentences; without those that the summary has said already."""
    return [f"{f.severity:8s} {f.message} ({f.code})" for f in findings if f.message not in said]


def findings_table(findings: tuple[Finding, ...]) -> Table:
    """Return findings as a table."""
    return Table(
        ("severity", "code", "finding"), [[Cell(f.severity, _TONES[f.severity]), f.code, f.message] for f in findings]
    )


@dataclass(frozen=True)
class Candidate(ToDict):
    """One new index against the old one, on the same golden queries.

    Attributes:
        name: Of the run.
        recall, ndcg, mrr: Means over the golden queries that have a relevant document; a missing query counts 0.
        overlap: Mean share of documents that it has in common with the old index; None for the old one itself.
        retrieved, missing: Golden queries that the run answers, and those it does not.
        repeated: Places taken by a document that stood there before.
        latency_p50, latency_p95: Milliseconds a query; None where the run does not say.
        cost_per_1000: Dollars a thousand queries; None where the run does not say.
        differences: For recall, ndcg and mrr: new - old with the anytime interval and p-value, adjusted by Holm over the
            candidates, and the normal mixture's interval beside it.
        gate: Bounds and p-values of the recall gate, unadjusted.
        safe_pvalue, harm_pvalue: The gate's p-values, adjusted by Holm over the candidates: these decide.
        decision: promote, hold or halt; None for the old index.
        reason: recall_safe, recall_not_proven, recall_worse or no_data.
        summary: One sentence.
    """

    name: str
    recall: float | None
    ndcg: float | None
    mrr: float | None
    retrieved: int
    missing: int
    repeated: int
    overlap: float | None = None
    latency_p50: float | None = None
    latency_p95: float | None = None
    cost_per_1000: float | None = None
    differences: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    safe_pvalue: float | None = None
    harm_pvalue: float | None = None
    decision: str | None = None
    reason: str = ""
    summary: str = ""


@dataclass(frozen=True)
class IndexCompare(ToDict):
    """May the alias move to a new index? `abtest.index_compare/1`.

    Attributes:
        decision: promote, hold or halt; with several candidates promote when one may, halt when none can.
        summary: One sentence.
        findings: What holds the swap, for machines.
        k, margin, alpha, alpha_halt: As asked: cut-off, largest loss of recall, levels of "safe" and of "harm".
        golden: The golden set: queries, judged, empty (without a relevant document, in no mean), names of the first ones.
        old: The old index.
        candidates: The new ones, in the order given.
        best: Name of the candidate to take: the promoted one with the highest recall, then nDCG; None without.
        inputs: The files.
        notes: What should be known besides.
        exit_code: As of decide: 0 promote, 10 hold, 20 halt, 40 no data.
    """

    decision: str
    summary: str
    findings: tuple[Finding, ...]
    k: int
    margin: float
    alpha: float
    alpha_halt: float
    golden: Mapping[str, Any]
    old: Candidate
    candidates: tuple[Candidate, ...]
    best: str | None = None
    inputs: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    exit_code: int = 10

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.index_compare/1`."""
        return {"schema": "abtest.index_compare/1", **super().to_dict()}

    def __repr__(self) -> str:
        lines = [self.summary, *(c.summary for c in self.candidates if c.summary != self.summary)]
        return "\n\n".join(
            ["\n".join(lines), self._table().to_text(), *(["\n".join(self.notes)] if self.notes else [])]
        )

    def _repr_html_(self) -> str:
        """Show the sentence and the table in a notebook."""
        notes = "".join(f"<p>{escape_html(note)}</p>" for note in self.notes)
        return f"<p><strong>{escape_html(self.summary)}</strong></p>{self._table().to_html(styled=True)}{notes}"

    def to_polars(self) -> polars.DataFrame:
        """Return a row for each index; every number of it a column."""
        return self._table().to_polars()

    def plot(self) -> Any:
        """Return an Altair picture: each candidate's recall against the old one's, with interval and margin."""
        from abtest.charts.index import recall_differences

        return recall_differences(self.to_dict())

    def _table(self) -> Table:
        from abtest.lineage.index_words import compare_table

        return compare_table(self)
