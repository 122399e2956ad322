"""Is what the index holds still what the documents say? Stale, missing and orphaned documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abtest.lineage.index_files import Export, RowError, text
from abtest.lineage.index_versions import Manifest, index_name
from abtest.results import Finding

_NAMED = 5
"""Documents of each kind that are named."""


def read_documents(export: Export) -> dict[str, str | None]:
    """Read the export of the sources: id -> source_sha256 as it is now; of a repeated id the last row counts."""
    found: dict[str, str | None] = {}
    for row in export:
        try:
            found[text(row, "id", needed=True) or ""] = text(row, "source_sha256")
        except RowError as error:
            export.reject(error)
    return found


def document_report(documents: Mapping[str, str | None], manifest: Manifest) -> tuple[dict[str, Any], list[Finding]]:
    """Compare the documents with what was indexed.

    * stale: a row of the document carries another hash than the source has now (an index may hold several rows, chunks,
      of one document);
    * missing: the index has no row of it;
    * orphaned: the index has rows of a document that is no more;
    * unknown: one side carries no hash; it is neither fresh nor stale.

    Returns:
        The JSON part: counts and the first names of each kind; and the findings, all warnings: old text is answered
        wrongly, but vectors still fit.
    """
    stale: list[str] = []
    unknown: list[str] = []
    for name in sorted(documents.keys() & manifest.hashes.keys()):
        now, indexed = documents[name], manifest.hashes[name]
        if now is not None and any(h is not None and h != now for h in indexed):
            stale.append(name)
        elif now is None or None in indexed:
            unknown.append(name)
    kinds = {
        "stale": stale,
        "missing": sorted(documents.keys() - manifest.hashes.keys()),
        "orphaned": sorted(manifest.hashes.keys() - documents.keys()),
        "unknown": unknown,
    }
    report: dict[str, Any] = {
        "index_id": manifest.index_id,
        "documents": len(documents),
        "indexed": len(manifest.hashes),
    }
    report |= {kind: {"count": len(names), "first": names[:_NAMED]} for kind, names in kinds.items()}
    return report, _findings(kinds, len(documents), manifest)


def _findings(kinds: Mapping[str, list[str]], documents: int, manifest: Manifest) -> list[Finding]:
    name, found = index_name(manifest.index_id), list[Finding]()
    words = {
        "stale": (
            "index_stale",
            f"of {documents:,} documents changed after they were indexed in {name}: it answers from their old text",
        ),
        "missing": ("index_missing", f"of {documents:,} documents are not in {name}"),
        "orphaned": ("index_orphaned", f"documents in {name} are no more: it still answers from them"),
    }
    for kind, (code, rest) in words.items():
        if names := kinds[kind]:
            found.append(Finding(code, "warning", None, f"{len(names):,} {rest}"))
    return found
