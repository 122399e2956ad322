"""Which prompt, model and configuration is running right now, or was at any past moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from abtest.analysis.times import parse_moment, to_text
from abtest.errors import TooManyVersionsError, UsageError
from abtest.lineage.changes import BUCKETS, Change, Looked, changes_of_registry, changes_of_traffic
from abtest.lineage.integrity import integrity
from abtest.lineage.manifest import Manifest, whole_of
from abtest.lineage.registry import Registry, registry
from abtest.lineage.seen import Asked, Seen, history, newest_call, window
from abtest.metrics.base import duration_seconds
from abtest.results import Finding, ToDict
from abtest.store.store import Store

if TYPE_CHECKING:
    import polars

    from abtest.display import Table

LAST = "1h"


@dataclass(frozen=True)
class Running(ToDict):
    """One manifest on one surface, as it was in the window.

    Attributes:
        surface: Feature or route; None where the logs have none.
        manifest: What ran.
        share: Part of the calls on this surface that users saw; None when users saw none there.
        first_seen, last_seen: Ever, up to the end of the window (RFC 3339).
        interactions: Calls in the window.
        shadow: How many of them nobody saw.
        registered: Whether it is registered; None where the log says too little to tell, or nothing is registered here.
        name: The name it is registered under.
        labels: Labels that stand on it.
        retired: Whether it was retired.
        part_of: Id of the manifest that says the same and more: these calls lack fields, as failed calls do.
    """

    surface: str | None
    manifest: Manifest
    share: float | None
    first_seen: str | None
    last_seen: str | None
    interactions: int
    shadow: int = 0
    registered: bool | None = None
    name: str | None = None
    labels: tuple[str, ...] = ()
    retired: bool = False
    part_of: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready objects, with the id of the manifest."""
        data = {k: v for k, v in super().to_dict().items() if k != "manifest"}
        ids = {"manifest_id": self.manifest.manifest_id, "short_id": self.manifest.short}
        return {"surface": data.pop("surface"), **ids, "manifest": dict(self.manifest.fields), **data}


@dataclass(frozen=True)
class Versions(ToDict):
    """What ran in a window: `abtest.versions/1`."""

    as_of: str | None
    since: str | None
    surfaces: tuple[Running, ...] = ()
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.versions/1`."""
        return {"schema": "abtest.versions/1", **super().to_dict()}

    def __repr__(self) -> str:
        from abtest.lineage.words import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        """Show the table, the changes and the findings in a notebook."""
        from abtest.lineage.words import as_html

        return as_html(self)

    def table(self) -> Table:
        """Return the table of what ran."""
        from abtest.lineage.words import versions_table

        return versions_table(self)

    def to_polars(self) -> polars.DataFrame:
        """Return a polars frame: a row a surface and manifest, every field of the manifest a column."""
        return self.table().to_polars()


def versions(store: Store, *, last: str = LAST, at: str | int | None = None, surface: str | None = None) -> Versions:
    """Return every manifest that ran on every surface in a window, and what changed in it.

    Args:
        store: An open store.
        last: How long the window is, for example "15m", "1h" or "7d".
        at: Its end: a moment (RFC 3339), or microseconds since 1970; default: the newest call in the store.
        surface: Only this surface.

    Returns:
        Surfaces in the order of their names, on each the manifests with most traffic first. Nothing in an empty window.

    Raises:
        UsageError: A length or a moment that cannot be read.
    """
    length = _length(last)
    as_of_us = parse_moment(at, key="--at") if isinstance(at, str) else newest_call(store) if at is None else at
    if as_of_us is None:
        return Versions(None, None)
    start = as_of_us - length
    have = registry(store)
    asked = Asked(as_of_us, store.last_file(), start + 1, surface=surface)
    rows = window(store, asked)
    past, notes = _past(store, asked)
    first_seen: dict[tuple[str | None, Manifest], int] = {}
    for r in [*past, *rows]:
        key = (r.surface, r.manifest)
        first_seen[key] = min(first_seen.get(key, r.first_us), r.first_us)
    labels = have.labels(as_of_us if at is not None else None)
    running = [_running(group, rows, first_seen, have, labels) for group in _grouped(rows).values()]
    grid = max(length // BUCKETS, 1)
    around = window(
        store,
        Asked(
            as_of_us, asked.max_file, start - length + 1, hours=True, surface=surface, grid_us=grid, origin_us=start + 1
        ),
    )
    changes = changes_of_traffic(Looked(start, as_of_us, grid, around), first_seen)
    whole = Asked(as_of_us, asked.max_file, hours=True, surface=surface)
    findings = integrity(past, have, as_of_us=as_of_us, running_since_us=start, hourly=lambda: history(store, whole))
    if surface is not None:  # what never ran here may run elsewhere
        findings = [f for f in findings if f.code != "never_ran"]
    return Versions(
        to_text(as_of_us), to_text(start), tuple(sorted(running, key=_order)),
        (*changes, *changes_of_registry(have, start, as_of_us)), tuple(findings), tuple(notes),
    )  # fmt: skip


def _past(store: Store, asked: Asked) -> tuple[list[Seen], list[str]]:
    try:
        return history(store, Asked(asked.as_of_us, asked.max_file, surface=asked.surface)), []
    except TooManyVersionsError as error:
        return [], [f"{error.message}: first_seen is of this window only, and nothing was checked ({error.hint})"]


def _running(
    group: Sequence[Seen],
    rows: Sequence[Seen],
    first_seen: dict[tuple[str | None, Manifest], int],
    have: Registry,
    labels: dict[str, str],
) -> Running:
    surface, manifest = group[0].surface, group[0].manifest
    here = [r for r in rows if r.surface == surface]
    seen = sum(r.calls for r in here if r.exposed)
    shown = sum(r.calls for r in group if r.exposed)
    calls = sum(r.calls for r in group)
    found = have.match(manifest, surface)
    ident = found.manifest.manifest_id if found else None
    whole = whole_of(manifest, {r.manifest for r in here})
    return Running(
        surface, manifest, shown / seen if seen else None,
        to_text(first_seen[surface, manifest]), to_text(max(r.last_us for r in group)), calls, calls - shown,
        have.knows(manifest, surface) if have else False, found.name if found else None,
        tuple(sorted(name for name, at in labels.items() if at == ident)), ident in have.retired,
        whole.manifest_id if whole else None,
    )  # fmt: skip


def _grouped(rows: Sequence[Seen]) -> dict[tuple[str | None, Manifest], list[Seen]]:
    groups: dict[tuple[str | None, Manifest], list[Seen]] = defaultdict(list)
    for r in rows:
        groups[r.surface, r.manifest].append(r)
    return groups


def _order(r: Running) -> tuple[bool, str, int, str]:
    return (r.surface is None, r.surface or "", -r.interactions, r.manifest.manifest_id)


def _length(text: str) -> int:
    try:
        seconds = duration_seconds(text)
    except (ValueError, KeyError, IndexError):
        seconds = 0.0
    if not 0 < seconds < 3.2e9:
        raise UsageError(f"{text[:40]!r} is no length of time", key="--last", hint="write 15m, 1h or 7d")
    return int(seconds * 1e6)
