"""What one release ran, for its report: its versions by arm, and when they came and went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abtest.analysis.times import to_text
from abtest.errors import TooManyVersionsError
from abtest.lineage.arms import calls_of_release
from abtest.lineage.changes import difference
from abtest.lineage.manifest import Manifest, whole_of
from abtest.lineage.registry import registry
from abtest.lineage.seen import Seen, newest_call
from abtest.results import ToDict
from abtest.spec import Experiment
from abtest.store.store import Store

MOST = 40
"""Versions that are named; a release has two."""


@dataclass(frozen=True)
class ReleaseVersions(ToDict):
    """The versions of one release.

    Attributes:
        versions: By arm and surface, those with most calls first: arm, surface, manifest_id, short_id, manifest, words,
            calls, share (of the arm's calls on this surface), first_seen, last_seen, labels, part_of.
        changes: Versions that came later than their arm began: at, arm, surface, message.
        note: Why there are none; empty when there are.
    """

    versions: tuple[dict[str, Any], ...] = ()
    changes: tuple[dict[str, Any], ...] = ()
    note: str = ""


def release_versions(
    store: Store, experiment: Experiment, as_of_us: int | None = None, max_file: int | None = None
) -> ReleaseVersions:
    """Return what each arm of a release ran.

    Args:
        store: An open store.
        experiment: The release.
        as_of_us: Calls up to this moment; default: the newest one.
        max_file: What was loaded up to here; default: everything.
    """
    as_of_us = newest_call(store) if as_of_us is None else as_of_us
    max_file = store.last_file() if max_file is None else max_file
    if as_of_us is None:
        return ReleaseVersions(note="there are no calls in the store")
    try:
        rows = calls_of_release(store, experiment, as_of_us, max_file)
    except TooManyVersionsError as error:
        return ReleaseVersions(note=error.message)
    if not rows:
        return ReleaseVersions(
            note="the logs do not say which call belongs to which arm; the checks have what is known"
        )
    have = registry(store)
    labels = have.labels()
    found: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    places = sorted(
        {(experiment.arm_names.index(str(r.variant)), r.surface or "", r.surface) for r in rows}, key=lambda p: p[:2]
    )
    for place, _, surface in places:
        arm = experiment.arm_names[place]
        sums = _sums([r for r in rows if r.variant == arm and r.surface == surface])
        total, begin = sum(c for c, _, _ in sums.values()), min(first for _, first, _ in sums.values())
        order = sorted(sums, key=lambda m: (-sums[m][0], m.manifest_id))
        for m in order[:MOST]:
            calls, first, last = sums[m]
            known, whole = have.match(m, surface), whole_of(m, sums)
            ident = known.manifest.manifest_id if known else None
            found.append({
                "arm": arm, "surface": surface, "manifest_id": m.manifest_id, "short_id": m.short, "manifest": dict(m.fields),
                "words": m.words, "calls": calls, "share": calls / total, "first_seen": to_text(first), "last_seen": to_text(last),
                "labels": sorted(name for name, at in labels.items() if at == ident), "part_of": whole.manifest_id if whole else None,
            })  # fmt: skip
        changes += _later(arm, surface, sums, order, begin)
    return ReleaseVersions(tuple(found), tuple(sorted(changes, key=lambda c: (c["at"], c["arm"]))))


def _later(
    arm: str, surface: str | None, sums: dict[Manifest, tuple[int, int, int]], order: Sequence[Manifest], begin: int
) -> list[dict[str, Any]]:
    """Return the versions that an arm began to run later, each against the one it has most calls of."""
    whole = [m for m in order if whole_of(m, sums) is None]
    main = min(whole[:1] + [m for m in whole if sums[m][1] == begin], key=lambda m: sums[m][1], default=None)
    return [
        {
            "at": to_text(sums[m][1]),
            "arm": arm,
            "surface": surface,
            "message": f"{arm} began to run {m.words}: {difference(main, m)}",
        }
        for m in whole[:MOST]
        if main is not None and m != main
    ]


def _sums(rows: Sequence[Seen]) -> dict[Manifest, tuple[int, int, int]]:
    groups: dict[Manifest, list[Seen]] = defaultdict(list)
    for r in rows:
        groups[r.manifest].append(r)
    return {
        m: (sum(r.calls for r in g), min(r.first_us for r in g), max(r.last_us for r in g)) for m, g in groups.items()
    }
