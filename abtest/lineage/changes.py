"""What changed in a window: manifests that came, came back, went, or took over the traffic, and moves of the registry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from abtest.analysis.times import to_text
from abtest.lineage.manifest import Manifest, whole_of
from abtest.lineage.registry import Registry
from abtest.lineage.seen import Seen
from abtest.results import ToDict

BUCKETS = 60
"""Stretches that a window is cut into."""
_SURE = math.log(1e-6)
"""An absence that chance explains once in a million is none."""
_STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Change(ToDict):
    """One change.

    Attributes:
        at: When (RFC 3339): of the first or last call, of the clock for moves of the registry.
        surface: Where; None for the registry.
        kind: appeared (never seen before) | returned | stopped | majority (has most of the traffic since) | registered |
            label_moved | retired.
        manifest_id: Which manifest.
        previous_id: What it took the place of; None when there is none.
        fields: field -> [before, after] where the two differ.
        message: One sentence.
    """

    at: str | None
    surface: str | None
    kind: str
    manifest_id: str
    previous_id: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    message: str = ""


@dataclass(frozen=True)
class Looked:
    """What a window holds: `rows` by stretch of time, twice as far back as the window."""

    start_us: int
    as_of_us: int
    grid_us: int
    rows: Sequence[Seen]


def changes_of_traffic(looked: Looked, first_seen: Mapping[tuple[str | None, Manifest], int]) -> list[Change]:
    """Return the changes on every surface, oldest first; rows that only lack fields are no versions of their own."""
    found: list[Change] = []
    for surface in sorted({r.surface for r in looked.rows}, key=lambda s: (s is None, s or "")):
        rows = [r for r in looked.rows if r.surface == surface]
        manifests = {r.manifest for r in rows}
        parts = {m for m in manifests if whole_of(m, manifests) is not None}
        place = _Surface(surface, looked, [r for r in rows if r.manifest not in parts])
        found += place.came({m: at for (s, m), at in first_seen.items() if s == surface})
        found += [*place.went(), *place.took_over()]
    return sorted(found, key=lambda c: (c.at or "", c.surface or "", c.kind, c.manifest_id))


def changes_of_registry(registry: Registry, start_us: int, as_of_us: int) -> list[Change]:
    """Return the moves of the registry between two times of the clock."""
    found: list[Change] = []
    for r in registry.manifests:
        if start_us < r.registered_us <= as_of_us:
            m = r.manifest
            found.append(
                Change(to_text(r.registered_us), None, "registered", m.manifest_id, message=f"{m.words} was registered")
            )
    for move in registry.moves:
        if start_us < move.at_us <= as_of_us:
            new, old = registry.by_id[move.manifest_id].manifest, registry.by_id.get(move.before or "")
            origin = f" from {old.manifest.words}" if old else ""
            found.append(
                Change(
                    to_text(move.at_us), None, "label_moved", move.manifest_id, move.before,
                    old.manifest.changes_to(new) if old else {}, f"{move.label} moved{origin} to {new.words}",
                )
            )  # fmt: skip
    for ident, at_us in registry.retired.items():
        if start_us < at_us <= as_of_us:
            words = registry.by_id[ident].manifest.words
            found.append(Change(to_text(at_us), None, "retired", ident, message=f"{words} was retired"))
    return sorted(found, key=lambda c: c.at or "")


def step_up(m: Manifest, rows: Sequence[Seen], level: float = 0.5) -> int:
    """Return the stretch in which a manifest's share went up: from it on, its calls are beyond `level` of all by most."""
    beyond: dict[int, float] = {}
    for r in rows:
        beyond[r.hour or 0] = beyond.get(r.hour or 0, 0.0) + r.calls * ((r.manifest == m) - level)
    best, at, total = 0.0, max(beyond, default=0), 0.0
    for stretch in sorted(beyond, reverse=True):
        total += beyond[stretch]
        if total > best:
            best, at = total, stretch
    return at


def difference(before: Manifest, after: Manifest) -> str:
    """Return in words what differs: "prompt_version v12 to v13"; hashes are shortened."""
    return ", ".join(f"{name} {_short(a)} to {_short(b)}" for name, (a, b) in before.changes_to(after).items())


def _short(value: str | None) -> str:
    if value is None:
        return "unknown"
    return f"{value[:12]}…" if len(value) > 40 else value


@dataclass
class _Surface:
    """The rows of one surface."""

    surface: str | None
    looked: Looked
    rows: Sequence[Seen]

    def __post_init__(self) -> None:
        self.earlier = self._sums(r for r in self.rows if r.last_us <= self.looked.start_us)
        self.now = self._sums(r for r in self.rows if r.first_us > self.looked.start_us)

    def _sums(self, rows: Iterable[Seen]) -> dict[Manifest, tuple[int, int, int]]:
        """Return manifest -> calls, first and last."""
        sums: dict[Manifest, tuple[int, int, int]] = {}
        for r in rows:
            calls, first, last = sums.get(r.manifest, (0, r.first_us, r.last_us))
            sums[r.manifest] = (calls + r.calls, min(first, r.first_us), max(last, r.last_us))
        return sums

    def came(self, first_seen: Mapping[Manifest, int]) -> list[Change]:
        """Return manifests that are new in the window."""
        found: list[Change] = []
        before, now = (sum(calls for calls, _, _ in sums.values()) for sums in (self.earlier, self.now))
        for m, (calls, first, _) in sorted(self.now.items(), key=lambda item: (item[1][1], item[0].manifest_id)):
            is_new = first_seen.get(m, first) >= first
            # A rare one that was not there for a while has not come back: chance explains it.
            if m in self.earlier or not (is_new or before * math.log1p(-calls / (now + 1)) < _SURE):
                continue
            kind = "appeared" if is_new else "returned"
            old = self._before(m, first)
            what = f"{kind} ({difference(old, m)})" if old else kind
            found.append(self._change(first, kind, m, old, f"{m.words} {what}"))
        return found

    def went(self) -> list[Change]:
        """Return manifests whose calls ended: at their share until then, chance does not explain the silence since."""
        found: list[Change] = []
        for m, (calls, _, last) in self._sums(self.rows).items():
            until = sum(r.calls for r in self.rows if r.first_us <= last)
            after = sum(r.calls for r in self.rows if r.first_us > last)
            share = calls / (until + 1)
            if after * math.log1p(-share) < _SURE:
                found.append(self._change(last, "stopped", m, None, f"{m.words} stopped"))
        return found

    def took_over(self) -> list[Change]:
        """Return the manifest that has most of the users' traffic now and had not in the time before."""
        seen = [r for r in self.rows if r.exposed]
        late = self.looked.as_of_us - (self.looked.as_of_us - self.looked.start_us) // 4
        before = self._sums(r for r in seen if r.last_us <= self.looked.start_us)
        end = self._sums(r for r in seen if r.first_us > late)
        for m in end:
            was, then = before.get(m, (0, 0, 0))[0], sum(calls for calls, _, _ in before.values())
            has, now = end[m][0], sum(calls for calls, _, _ in end.values())
            if then and m in self.now and _clearly(has, now) and _clearly(then - was, then):
                old = max(before, key=lambda b: (before[b][0], b.manifest_id))
                at = self._leads_since(m, seen)
                return [self._change(at, "majority", m, old, f"{m.words} has most of the traffic since then")]
        return []

    def _leads_since(self, m: Manifest, rows: Sequence[Seen]) -> int:
        """Return when a manifest took over: its first call since the stretch in which its share went up."""
        stretch = step_up(m, rows)
        return min(
            (r.first_us for r in rows if r.manifest == m and (r.hour or 0) >= stretch), default=self.looked.as_of_us
        )

    def _before(self, m: Manifest, at_us: int) -> Manifest | None:
        """Return what a manifest took the place of: of those that ran before it, the one most like it."""
        others = {o: calls for o, (calls, first, _) in self._sums(self.rows).items() if o != m and first < at_us}
        return min(others, key=lambda o: (len(o.changes_to(m)), -others[o], o.manifest_id), default=None)

    def _change(self, at_us: int, kind: str, m: Manifest, old: Manifest | None, message: str) -> Change:
        fields = old.changes_to(m) if old else {}
        return Change(
            to_text(at_us), self.surface, kind, m.manifest_id, old.manifest_id if old else None, fields, message
        )


def _clearly(part: int, whole: int) -> bool:
    """Tell whether a part is more than half, and more than chance makes it."""
    return whole > 0 and part / whole > 0.5 and (part - whole / 2) > _STANDARD_ERRORS * math.sqrt(whole) / 2
