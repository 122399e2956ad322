"""Do an index and its queries live in one vector space? From logs, an export of the index, probes, documents, queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abtest.analysis.times import to_text
from abtest.errors import InvalidInputError, UsageError
from abtest.lineage.index_documents import document_report, read_documents
from abtest.lineage.index_files import Export, Given, RowError, Several, named_inputs, text
from abtest.lineage.index_probes import EPSILON, RUN_LENGTH_DAYS, Probes, probe_report, read_probes, sample_report
from abtest.lineage.index_queries import Queries, query_report, read_queries
from abtest.lineage.index_results import IndexDrift
from abtest.lineage.index_versions import (
    Manifest,
    Usage,
    index_name,
    manifest_findings,
    mismatch,
    usage,
    usage_findings,
)
from abtest.results import Finding
from abtest.stats.energy import Kernel
from abtest.store.store import Store

_SEVERITY = {"critical": 0, "error": 1, "warning": 2, "info": 3}


@dataclass
class _Found:
    """What the parts of a look have found so far."""

    findings: list[Finding] = field(default_factory=list[Finding])
    checked: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    indexes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    samples: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    documents: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])


def index_drift(
    index: Several | None = None,
    *,
    probes: Given | None = None,
    documents: Given | None = None,
    queries: Given | None = None,
    store: Store | None = None,
    surface: str | None = None,
    as_of_us: int | None = None,
    epsilon: float = EPSILON,
    run_length_days: float = RUN_LENGTH_DAYS,
    kernel: Kernel = "energy",
    baseline_until_us: int | None = None,
) -> IndexDrift:
    """Look for mixed and mismatched embedding models, silent changes, stale documents, and drift of the queries.

    Everything is optional; each input adds a comparison. Files are NDJSON, a JSON array, CSV or Parquet; rows in memory
    (an iterable of dicts) are taken too.

    Args:
        index: Export of the index: id, and as far as known embedding_model_version, dim, source_sha256, updated_at,
            vector, index_id. A mapping gives each export the name of its index.
        probes: Pinned texts embedded anew on schedule (probe_id, ts, vector, stored_vector), and documents embedded anew
            with the model of today (id, vector, maybe source_sha256): which part of the index does it fit?
        documents: The sources as they are now: id, source_sha256.
        queries: Query embeddings over time: ts, vector, maybe unit_id and embedding_model_version.
        store: Logs: index_id and embedding_model_version of the calls.
        surface: Read only calls of this surface.
        as_of_us: Cut the logs by event time; default: the newest event.
        epsilon: A cosine below 1 - epsilon is another direction, in (0, 1).
        run_length_days: Average days between false alarms of the probe detector, declared.
        kernel: Of the drift of queries: "energy" or "mmd".
        baseline_until_us: Queries before this moment are the baseline; default: the first day.

    Returns:
        An `IndexDrift`; exit code 0 healthy, 30 mixed, mismatched or changed, 40 nothing to look at.

    Raises:
        LogReadError: a file cannot be read whole.
        InvalidInputError: epsilon or run_length_days out of range.
    """
    if not 0.0 < epsilon < 1.0 or not run_length_days > 0.0:
        raise InvalidInputError(
            "epsilon must lie between 0 and 1, and the run length above 0 days", hint="epsilon=0.01"
        )
    exports: list[Export] = []
    pinned = _read(probes, exports, read_probes) or Probes()
    sources = _read(documents, exports, read_documents)
    asked = _read(queries, exports, read_queries) or Queries()
    manifests = _manifests(index, exports, pinned.wanted, hashes=sources is not None or bool(pinned.samples))
    as_of_us = store.newest_us() if store is not None and as_of_us is None else as_of_us
    usages = (
        usage(store, as_of_us=as_of_us, max_file=store.last_file(), surface=surface)
        if store is not None and as_of_us is not None
        else []
    )
    found = _Found()
    _look_at_queries(found, usages)
    for manifest in manifests:
        mine = _of_index(manifest, manifests, usages, found)
        _look_at_index(found, manifest, mine, pinned, sources, epsilon, asked, alone=len(manifests) == 1)
    if not manifests and pinned.samples:
        _look_at_samples(found, pinned, Manifest(None), epsilon, alone=True)
    stored = {name: v for m in manifests for name, v in m.vectors.items() if name not in m.repeated}
    probe_part, more = probe_report(pinned, stored, epsilon=epsilon, days=run_length_days)
    query_part, drift = query_report(asked, kernel=kernel, baseline_until_us=baseline_until_us)
    found.findings += [*more, *drift]
    _say_checked(found, probe_part, query_part)
    return _result(found, usages, probe_part, query_part, exports, surface, to_text(as_of_us if store else None))


# -- reading ------------------------------------------------------------------------------------------------------------


def _read(given: Given | None, exports: list[Export], read: Any) -> Any:
    if given is None:
        return None
    exports.append(Export(given))
    return read(exports[-1])


def _manifests(index: Several | None, exports: list[Export], wanted: frozenset[str], *, hashes: bool) -> list[Manifest]:
    """Read the exports in one pass each; only vectors that something is compared with are kept."""
    found: dict[str | None, Manifest] = {}
    for name, given in named_inputs(index) if index is not None else []:
        export = Export(given, vectors_of=wanted)
        exports.append(export)
        for row in export:
            try:
                index_id = text(row, "index_id") or name
                manifest = found.get(index_id) or Manifest(index_id)
                manifest.add(row, wanted=wanted, hashes=hashes)
                found[index_id] = manifest
            except RowError as error:
                export.reject(error)
    return list(found.values())


def _of_index(
    manifest: Manifest, manifests: Sequence[Manifest], usages: Sequence[Usage], found: _Found
) -> list[Usage] | None:
    """Return the calls that queried this index; None when nothing says which ones did."""
    names = {u.index_id for u in usages if u.index_id is not None}
    if manifest.index_id is not None and names:
        return [u for u in usages if u.index_id == manifest.index_id]
    if not usages:
        return []
    if len(manifests) == 1 and len(names) <= 1:
        which = f"{index_name(next(iter(names)))} of the logs" if names else "all calls (the logs name no index)"
        found.notes.append(f"The export is taken to be what {which} queried: nothing names it otherwise.")
        return list(usages)
    found.notes.append(
        f"The logs name {len(names)} indexes, and the export none: they are not compared. Write NAME=FILE."
    )
    return None


# -- comparing ----------------------------------------------------------------------------------------------------------


def _look_at_queries(found: _Found, usages: Sequence[Usage]) -> None:
    known = [u for u in usages if u.index_id is not None and u.embedding_model_version is not None]
    if known:
        calls = sum(u.calls for u in known)
        found.checked.append(f"{calls:,} calls: does each index get queries of one embedding model?")
        found.findings += usage_findings(usages)


def _look_at_index(
    found: _Found, manifest: Manifest, usages: list[Usage] | None, pinned: Probes, sources: Mapping[str, str | None] | None,
    epsilon: float, asked: Queries, *, alone: bool,
) -> None:  # fmt: skip
    name = index_name(manifest.index_id)
    found.findings += manifest_findings(manifest)
    sampled = _look_at_samples(found, pinned, manifest, epsilon, alone=alone)
    unknown = manifest.rows - sum(s.rows for s in manifest.known.values())
    if unknown:
        words = f"{unknown:,} of {manifest.rows:,} rows of {name} do not say which embedding model made them"
        words += "" if sampled else ": embed some documents anew and compare them (--probes)"
        found.findings.append(Finding("index_unknown", "info" if sampled else "warning", None, words))
    else:
        found.checked.append(f"{manifest.rows:,} rows of {name}: are they of one embedding model?")
    if any(size is not None for size in manifest.dims):
        found.checked.append(f"{name}: are all vectors of one size?")
    more = _asked(asked, manifest.index_id) if not usages else []
    wrong, calls, bad = mismatch([*(usages or []), *more], manifest)
    if calls:
        found.checked.append(f"{calls:,} queries to {name}: were they embedded with its model?")
    if wrong is not None:
        found.findings.append(wrong)
    found.indexes.append({**manifest.to_dict(), "queries_compared": calls, "queries_mismatched": bad})
    if sources is not None:
        report, stale = document_report(sources, manifest)
        found.documents.append(report)
        found.findings += stale
        found.checked.append(f"{len(sources):,} documents: does {name} hold what they say now?")


def _asked(asked: Queries, index_id: str | None) -> list[Usage]:
    """Return the versions of a query file, for an index whose logs say nothing."""
    if not asked.times:
        return []
    span = (min(asked.times), max(asked.times))
    return [Usage(index_id, version, n, *span) for version, n in sorted(asked.versions.items(), key=str)]


def _look_at_samples(found: _Found, pinned: Probes, manifest: Manifest, epsilon: float, *, alone: bool) -> bool:
    """Compare documents embedded anew with this index; return whether some could be."""
    report, findings = sample_report(pinned, manifest, epsilon)
    if not alone and not manifest.version_of:
        return False  # they are documents of another index
    found.findings += findings
    if report is None:
        return False
    found.samples.append(report)
    if not report["compared"]:
        words = f"none of {len(pinned.samples):,} documents embedded anew has a stored vector in {index_name(manifest.index_id)}"
        found.findings.append(Finding("index_unknown", "warning", None, words))
        return False
    found.checked.append(
        f"{report['compared']:,} documents embedded anew: do they fit {index_name(manifest.index_id)}?"
    )
    return True


def _say_checked(found: _Found, probes: Mapping[str, Any] | None, queries: Mapping[str, Any] | None) -> None:
    if probes and (probes["with_stored_vector"] or probes["rounds"] > 1):
        found.checked.append(f"{probes['readings']:,} probe readings: do they still point where they did?")
    if probes and probes["with_own_first"]:
        found.notes.append("Probes without a stored vector are compared with their own first reading.")
    if probes and probes["detector"] is None:
        found.notes.append("Too few rounds of probes for the drift detector yet: it needs more than 5.")
    tested = [b for b in queries["batches"] if b["pvalue"] is not None] if queries else []
    if tested:
        found.checked.append(f"{len(tested)} days of queries: are they like the baseline?")


# -- the answer ---------------------------------------------------------------------------------------------------------


def _result(
    found: _Found, usages: Sequence[Usage], probes: Mapping[str, Any] | None, queries: Mapping[str, Any] | None,
    exports: Sequence[Export], surface: str | None, as_of: str | None,
) -> IndexDrift:  # fmt: skip
    findings = tuple(sorted(found.findings, key=lambda f: _SEVERITY[f.severity]))
    bad = [f for f in findings if f.severity in ("error", "critical")]
    notes = [f"{e.name}: {e.rejected:,} of {e.rows:,} rows could not be used; {e.first}" for e in exports if e.rejected]
    if bad:
        status, code = "drift", 30
        summary = bad[0].message + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else "")
    elif found.checked:
        status, code = "healthy", 0
        many = len(found.checked)
        warnings = sum(f.severity == "warning" for f in findings)
        summary = f"healthy: {many} comparison{'s' if many > 1 else ''} made, no mixture and no mismatch"
        summary += f"; {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    else:
        status, code, summary = "no_data", 40, "nothing could be compared: " + _missing(exports, usages)
    return IndexDrift(
        status=status, summary=summary, findings=findings, checked=tuple(found.checked), surface=surface, as_of=as_of,
        indexes=tuple(found.indexes), queries=tuple(usages), samples=tuple(found.samples), probes=probes,
        documents=tuple(found.documents), query_drift=queries, inputs=tuple(e.to_dict() for e in exports),
        notes=(*notes, *found.notes), exit_code=code,
    )  # fmt: skip


def _missing(exports: Sequence[Export], usages: Sequence[Usage]) -> str:
    if exports:
        return "the files carry neither versions nor vectors that belong together"
    if usages:
        return "the calls in the logs do not say which index and which embedding model they used"
    return "no call in the logs names an index or an embedding model, and no file was given"


def named_file(given: str) -> tuple[str | None, Path]:
    """Take `NAME=FILE` apart; a file of that whole name wins.

    Raises:
        UsageError: NAME or FILE is empty.
    """
    name, equals, file = given.partition("=")
    if not equals or Path(given).exists():
        return None, Path(given)
    if not name or not file:
        raise UsageError(f"{given!r} is no NAME=FILE", key="--index", hint="write support-kb=index.parquet")
    return name, Path(file)


def merged(pairs: Iterable[tuple[str | None, Path]]) -> Several | None:
    """Return what `index_drift` takes for named and unnamed files; raises UsageError for a mix or a name twice."""
    files = list(pairs)
    names = [name for name, _ in files]
    if not files:
        return None
    if all(name is None for name in names):
        return [path for _, path in files]
    if None in names or len(set(names)) < len(names):
        raise UsageError("every file needs a name of its own", key="--index", hint="write NAME=FILE for each")
    return {str(name): path for name, path in files}
