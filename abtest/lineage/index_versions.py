"""Which embedding model made the vectors of an index, which one its queries come from, and whether the two fit.

The index says it in its export (`embedding_model_version` of each row), the queries in the logs (`index_id` and
`embedding_model_version` of each call). Names are compared as they are written. What carries no version is unknown, not
equal and not different; vectors can still tell (`abtest.lineage.index_probes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from abtest.analysis.times import to_text
from abtest.display import clean, format_share, format_time, shorten
from abtest.lineage.index_files import Row, RowError, Vector, moment, number, text, vector
from abtest.results import Finding, Severity, ToDict
from abtest.store.query import HOUR_US, Facts, Query, Scan, fill, query
from abtest.store.store import Store

MINOR = 0.01
"""Up to this share of calls another version is said, and holds nothing: the same limit as the check `mixed_versions`."""
_HOURS = 744
"""Newest hours of each version that the JSON lists: a month."""


# --- the index ---------------------------------------------------------------------------------------------------------


@dataclass
class Span:
    """Rows or calls, and from when until when."""

    rows: int = 0
    first_us: int | None = None
    last_us: int | None = None

    def add(self, rows: int, first_us: int | None, last_us: int | None) -> None:
        """Take some more in."""
        self.rows += rows
        self.first_us = min((t for t in (self.first_us, first_us) if t is not None), default=None)
        self.last_us = max((t for t in (self.last_us, last_us) if t is not None), default=None)


@dataclass
class Manifest:
    """What the export of one index says; vectors are kept only of the rows that something is compared with.

    Attributes:
        index_id: Name of the index; None when nothing names it.
        versions: Embedding version (None: not said) -> rows.
        dims: Size of the vectors (None: not said) -> rows.
        wrong_dims: Rows whose declared size is not that of their vector.
        vectors: Document -> stored vector, of the wanted documents.
        repeated: Wanted documents with more than one vector: nothing can be compared with them.
        version_of: Document -> version, of the wanted documents.
        hashes: Document -> the source hashes of its rows, when documents are to be compared.
    """

    index_id: str | None
    rows: int = 0
    versions: dict[str | None, Span] = field(default_factory=dict)
    dims: dict[int | None, int] = field(default_factory=dict)
    wrong_dims: int = 0
    vectors: dict[str, Vector] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    version_of: dict[str, str | None] = field(default_factory=dict)
    hashes: dict[str, set[str | None]] = field(default_factory=dict)

    def add(self, row: Row, *, wanted: frozenset[str], hashes: bool) -> None:
        """Take in one row of the export; raises RowError when it cannot be used."""
        name = text(row, "id", needed=True) or ""
        version, source = text(row, "embedding_model_version"), text(row, "source_sha256")
        updated, stored, declared = moment(row, "updated_at"), vector(row, "vector"), number(row, "dim")
        if declared is not None and not (declared >= 1 and declared.is_integer()):
            raise RowError("dim must be a whole number above 0")
        size = int(declared) if declared is not None else None
        measured = stored.size if stored is not None else number(row, "vector_size")
        if measured is not None:
            self.wrong_dims += size is not None and size != measured
            size = int(measured)
        self.rows += 1
        self.versions.setdefault(version, Span()).add(1, updated, updated)
        self.dims[size] = self.dims.get(size, 0) + 1
        if hashes:
            self.hashes.setdefault(name, set()).add(source)
        if name in wanted:
            self._keep(name, stored, version)

    def _keep(self, name: str, stored: Vector | None, version: str | None) -> None:
        if stored is not None and name in self.vectors:
            self.repeated.add(name)
        if stored is not None:
            self.vectors[name] = stored
        self.version_of[name] = version

    @property
    def known(self) -> dict[str, Span]:
        """The versions that rows name."""
        return {version: span for version, span in self.versions.items() if version is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON of this index."""
        return {
            "index_id": self.index_id,
            "rows": self.rows,
            "versions": [
                {"embedding_model_version": v, "rows": s.rows, "share": s.rows / self.rows if self.rows else None,
                 "first_updated": to_text(s.first_us), "last_updated": to_text(s.last_us)}
                for v, s in sorted(self.versions.items(), key=lambda item: (-item[1].rows, str(item[0])))
            ],
            "dims": [{"dim": d, "rows": n} for d, n in sorted(self.dims.items(), key=lambda item: (-item[1], str(item[0])))],
            "wrong_dims": self.wrong_dims,
        }  # fmt: skip


def manifest_findings(manifest: Manifest) -> list[Finding]:
    """Return what is wrong inside one index: several embedding models, several sizes of vectors."""
    found: list[Finding] = []
    name, known = index_name(manifest.index_id), manifest.known
    if len(known) > 1:
        parts = [f"{s.rows:,} rows of {quoted(v)}" for v, s in sorted(known.items(), key=lambda i: (-i[1].rows, i[0]))]
        begun = [s.first_us for s in known.values()]
        since = max(t for t in begun if t is not None) if None not in begun else None
        found.append(_error("index_mixed", f"{name} mixes embedding models: {', '.join(parts)}{since_words(since)}"))
    sizes = {d: n for d, n in manifest.dims.items() if d is not None}
    if len(sizes) > 1 or manifest.wrong_dims:
        parts = [f"{n:,} rows of {d}" for d, n in sorted(sizes.items(), key=lambda i: (-i[1], i[0]))]
        wrong = (
            f"; {manifest.wrong_dims:,} rows declare another size than their vector has" if manifest.wrong_dims else ""
        )
        found.append(_error("index_dims", f"{name} has vectors of different sizes: {', '.join(parts)}{wrong}"))
    return found


# --- the queries -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage(ToDict):
    """Calls that used one index with one embedding version; None is what the logs do not say.

    Attributes:
        index_id: The index.
        embedding_model_version: What their queries were embedded with.
        calls: How many.
        first_us, last_us: Time of the first and the last, microseconds since 1970.
        hours: (start of the hour, calls), in order.
    """

    index_id: str | None
    embedding_model_version: str | None
    calls: int
    first_us: int
    last_us: int
    hours: tuple[tuple[int, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON, with times as text; only the newest 744 hours are listed."""
        return {
            "index_id": self.index_id, "embedding_model_version": self.embedding_model_version, "calls": self.calls,
            "first_seen": to_text(self.first_us), "last_seen": to_text(self.last_us),
            "hours": [{"hour": to_text(at), "calls": n} for at, n in self.hours[-_HOURS:]],
        }  # fmt: skip


def usage_query(*, twins: bool, as_of_us: int, max_file: int, surface: str | None) -> Query:
    """Return the query of the calls by index, embedding version and hour; a call that two sources logged is one row."""
    calls = Scan("", (), "user", (), facts=Facts(twins=twins), extra=frozenset({"surface"})).interaction()
    return query(fill("index_usage", interaction=calls), {"max_file": max_file, "as_of": as_of_us, "surface": surface})


def usage(store: Store, *, as_of_us: int, max_file: int, surface: str | None = None) -> list[Usage]:
    """Return the calls by index and embedding version, those with most calls first; calls that name neither are left out."""
    twins = store.connection.execute("select count(*) from twin where file_id <= $f", {"f": max_file}).fetchone()
    sql, params = usage_query(twins=bool(twins and twins[0]), as_of_us=as_of_us, max_file=max_file, surface=surface)
    by_key: dict[tuple[str | None, str | None], list[dict[str, Any]]] = {}
    for row in store.engine.rows(sql, params):
        by_key.setdefault((row["index_id"], row["version"]), []).append(row)
    found = [
        Usage(
            *key,
            sum(int(r["calls"]) for r in rows),
            min(int(r["first_us"]) for r in rows),
            max(int(r["last_us"]) for r in rows),
            tuple(sorted((int(r["hour_us"]), int(r["calls"])) for r in rows)),
        )
        for key, rows in by_key.items()
    ]
    return sorted(found, key=lambda u: (-u.calls, str(u.index_id), str(u.embedding_model_version)))


def usage_findings(usages: Sequence[Usage]) -> list[Finding]:
    """Return where queries of several embedding models went to one index: at most one of them can fit it."""
    found: list[Finding] = []
    for index_id in sorted({u.index_id for u in usages if u.index_id is not None}):
        known = [u for u in usages if u.index_id == index_id and u.embedding_model_version is not None]
        if len(known) > 1:
            found.append(_several(index_id, known))
    return found


def _several(index_id: str, known: Sequence[Usage]) -> Finding:
    calls = sum(u.calls for u in known)
    ordered = sorted(known, key=lambda u: u.first_us)
    newest, before = ordered[-1], ordered[:-1]
    parts = ", ".join(f"{u.calls:,} calls of {quoted(u.embedding_model_version)}" for u in known)
    # Servers do not change in one moment: an overlap of an hour is a rollout, a longer one is a mixture.
    if max(u.last_us for u in before) <= newest.first_us + HOUR_US and newest.last_us > max(u.last_us for u in before):
        words = (
            f"queries to {index_name(index_id)} come from {quoted(newest.embedding_model_version)} since {_at(newest.first_us)}, "
            f"from {quoted(before[-1].embedding_model_version)} before ({parts}): right only if the index was rebuilt then"
        )
        return Finding("embedding_switched", "warning", None, words)
    minor = min(u.calls for u in known) / calls <= MINOR
    severity: Severity = "warning" if minor else "error"
    words = f"{index_name(index_id)} is queried with several embedding models: {parts}{since_words(newest.first_us)}"
    return Finding("index_queries_mixed", severity, None, words)


def mismatch(usages: Iterable[Usage], manifest: Manifest) -> tuple[Finding | None, int, int]:
    """Compare the queries of an index with what it holds; calls from before its oldest row are not compared.

    Returns:
        The finding, or None; calls compared; calls of a version that the index does not hold.
    """
    known = manifest.known
    oldest = [s.first_us for s in known.values()]
    since = 0 if None in oldest else min((t for t in oldest if t is not None), default=0)
    compared = [
        (u, n) for u in usages if known and u.embedding_model_version is not None and (n := _calls_since(u, since))
    ]
    wrong = [(u, n) for u, n in compared if u.embedding_model_version not in known]
    calls, bad = sum(n for _, n in compared), sum(n for _, n in wrong)
    if not wrong:
        return None, calls, 0
    first = max(min(u.first_us for u, _ in wrong), since)
    versions = ", ".join(sorted({quoted(u.embedding_model_version) for u, _ in wrong}))
    words = (
        f"{bad:,} of {calls:,} queries to {index_name(manifest.index_id)} ({format_share(round(bad / calls, 4))}) were embedded with "
        f"{versions}, the index holds {', '.join(sorted(map(quoted, known)))}{since_words(first)}"
    )
    severity: Severity = "warning" if bad <= MINOR * calls else "error"
    return Finding("index_query_mismatch", severity, None, words), calls, bad


def _calls_since(usage: Usage, since: int) -> int:
    """Return the calls from the hour of `since` on."""
    return sum(n for at, n in usage.hours if at + HOUR_US > since) if usage.hours else usage.calls


# --- words -------------------------------------------------------------------------------------------------------------


def index_name(index_id: str | None) -> str:
    """Return how an index is called in a sentence."""
    return f"index {shorten(index_id, 60)}" if index_id else "the index"


def quoted(name: str | None) -> str:
    """Return a version in quotation marks, on one line."""
    return f"'{shorten(clean(name), 60)}'"


def since_words(us: int | None) -> str:
    """Return ", since 22 Nov 2026, 14:00 UTC", or nothing when it is not known."""
    return "" if us is None else f", since {_at(us)}"


def _at(us: int) -> str:
    return format_time(to_text(us))


def _error(code: str, message: str) -> Finding:
    return Finding(code, "error", None, message)
