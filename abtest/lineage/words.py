"""Versions for people: a table, what changed, what is wrong; as text for a terminal, as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from abtest.display import Cell, Column, Table, format_time, shorten
from abtest.lineage.manifest import FIELDS, SHORT

if TYPE_CHECKING:
    from abtest.lineage.versions import Running, Versions

ROWS = 40
"""Rows that are printed; JSON and polars have all."""
_SHOWN = ("prompt_name", "prompt_version", "model", "model_version")
_SIGNS = {"critical": "!!", "error": "!", "warning": "!", "info": "-"}


def versions_table(versions: Versions, *, limit: int | None = None) -> Table:
    """Return a row a surface and manifest; without `limit`, all of them."""
    runs = versions.surfaces
    notes = list(versions.notes)
    if limit is not None and len(runs) > limit:
        notes.append(f"and {len(runs) - limit} more with fewer calls: --surface NAME, or --json")
        runs = sorted(runs, key=lambda r: -r.interactions)[:limit]
        runs = [r for r in versions.surfaces if r in runs]
    asked = any(r.registered is not False for r in versions.surfaces)
    heads = ["surface", Column("share", "right"), "prompt", "model", "also differs in", "id", Column("calls", "right"),
             "first seen", "last call", "registry"]  # fmt: skip
    rows = [_row(r, [o for o in versions.surfaces if o.surface == r.surface], asked) for r in runs]
    data = [
        {
            **{k: v for k, v in r.to_dict().items() if k != "manifest"},
            **r.manifest.fields,
            "labels": ", ".join(r.labels),
        }
        for r in versions.surfaces
    ]
    table = Table(heads, rows, notes=notes, data=data)
    return table.without_empty_columns() if rows else table


def as_text(versions: Versions) -> str:
    """Return what the command prints."""
    if versions.as_of is None:
        return "there are no calls in the store yet"
    lines = [f"{_span(versions)}", ""]
    if not versions.surfaces:
        return f"{lines[0]}: no calls; try --last 1d, or another --at"
    lines += [versions_table(versions, limit=ROWS).to_text(), ""]
    lines += [
        "what changed:",
        *(f"  {format_time(c.at)}  {_place(c.surface)}{shorten(c.message, 300)}" for c in versions.changes),
    ]
    if not versions.changes:
        lines[-1] = "nothing changed in this time"
    if versions.findings:
        lines += ["", "what should not be:"]
        lines += [f"  {_SIGNS[f.severity]} {shorten(f.message, 400)}" for f in versions.findings]
    return "\n".join(lines)


def as_html(versions: Versions) -> str:
    """Return what a notebook shows."""
    from abtest.display import escape_html

    if versions.as_of is None:
        return "<p>there are no calls in the store yet</p>"
    parts = [f"<p>{escape_html(_span(versions))}</p>", versions_table(versions, limit=ROWS).to_html(styled=True)]
    if versions.changes:
        rows = [[format_time(c.at), c.surface, c.message] for c in versions.changes]
        parts.append(Table(("when", "surface", "what changed"), rows).without_empty_columns().to_html(styled=True))
    if versions.findings:
        rows = [[f.severity, f.code, f.message] for f in versions.findings]
        parts.append(Table(("severity", "code", "what should not be"), rows).to_html(styled=True))
    return "".join(parts)


def _row(r: Running, here: Sequence[Running], asked: bool) -> list[object]:
    m = r.manifest.fields
    prompt = " ".join(
        shorten(v, 40) for v in (m["prompt_name"], m["prompt_version"] or (m["prompt_sha256"] or "")[:SHORT]) if v
    )
    share = "shadow" if r.shadow == r.interactions else _percent(r.share)
    return [
        r.surface, share, prompt or None, _model(r), _others(r, here), r.manifest.short, f"{r.interactions:,}",
        format_time(r.first_seen), format_time(r.last_seen), _registry(r) if asked else None,
    ]  # fmt: skip


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %".replace(".0 %", " %")


def _model(r: Running) -> str:
    asked, answered = r.manifest.fields["model"] or "?", r.manifest.fields["model_version"]
    return asked if answered in (None, asked) else f"{asked} ({answered})"


def _others(r: Running, here: Sequence[Running]) -> str | None:
    """Return the fields that are not shown and in which the versions of a surface differ."""
    if r.part_of is not None:
        return "(fields missing)"
    m = r.manifest.fields
    whole = [o for o in here if o.part_of is None]
    fields = [
        f
        for f in FIELDS
        if f not in _SHOWN
        and not (f == "prompt_sha256" and m["prompt_version"])
        and len({o.manifest.fields[f] for o in whole}) > 1
    ]
    return (
        ", ".join(
            f"{f.removesuffix('_sha256')} {shorten((r.manifest.fields[f] or '?')[:SHORT], SHORT)}" for f in fields
        )
        or None
    )


def _registry(r: Running) -> object:
    if r.retired:
        return Cell("RETIRED", "bad")
    if r.labels:
        return ", ".join(r.labels)
    return {True: r.name or "registered", False: Cell("not registered", "warn"), None: "cannot tell"}[r.registered]


def _span(versions: Versions) -> str:
    return f"what ran from {format_time(versions.since)} to {format_time(versions.as_of)}"


def _place(surface: str | None) -> str:
    return "" if surface is None else f"{shorten(surface, 40)}: "
