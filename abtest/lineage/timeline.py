"""Changes of versions beside changes of metrics: "format errors rose from 0.4 % to 3.1 % 12 minutes after v13 reached 50 %"."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from abtest.analysis.times import parse_moment, to_text
from abtest.display import Table, format_time, shorten
from abtest.errors import UsageError
from abtest.lineage.changes import Looked, changes_of_registry, changes_of_traffic, step_up
from abtest.lineage.drift import Shift, shifts, split_range
from abtest.lineage.manifest import Manifest, whole_of
from abtest.lineage.registry import registry
from abtest.lineage.seen import Asked, Seen, history, newest_call, window
from abtest.lineage.signals import MINUTE_US, Hourly, Span, minutes, usual_signals
from abtest.lineage.silent_swap import moved, read_hours
from abtest.metrics.base import duration_seconds
from abtest.results import ToDict
from abtest.store.query import HOUR_US
from abtest.store.store import Store

DAYS = 365.0
NEAR_US = 24 * HOUR_US
"""A metric's change is told beside a version's change that came up to this long before it."""
_SIDE = 3
_CLEARLY_LESS = 0.4
_EARLY_US = 10 * MINUTE_US
"""A change point is known to some minutes only: a version's change this much later may still be its cause."""


@dataclass(frozen=True)
class Event(ToDict):
    """Something that happened.

    Attributes:
        at: When (RFC 3339).
        surface: Where; None for the registry, or where the logs have no surface.
        kind: appeared, returned, stopped, reached_half, registered, label_moved, retired; metric_shift for a metric.
        message: One sentence.
        manifest_id: Whose; None for a metric.
        metric: Which metric; None for a version.
        before, after: Its share of calls before and after.
        alarm_at: When the detector was sure.
        beside: The change of a version that came shortly before; its `message`.
        earliest, latest: Between which moments a metric's change most likely lies.
    """

    at: str | None
    surface: str | None
    kind: str
    message: str
    manifest_id: str | None = None
    metric: str | None = None
    before: float | None = None
    after: float | None = None
    alarm_at: str | None = None
    beside: str | None = None
    earliest: str | None = None
    latest: str | None = None


@dataclass(frozen=True)
class Timeline(ToDict):
    """What happened in a time: `abtest.versions_timeline/1`.

    Attributes:
        since, as_of: From when to when.
        days: Declared average number of days between two false alarms of a metric on one surface, or more.
        events: In the order of time.
        tracks: Hourly series to draw: {surface, metric, at[], share[]} and {surface, manifest_id, words, at[], share[]}.
    """

    since: str | None
    as_of: str | None
    days: float = DAYS
    events: tuple[Event, ...] = ()
    tracks: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.versions_timeline/1`."""
        return {"schema": "abtest.versions_timeline/1", **super().to_dict()}

    def __repr__(self) -> str:
        if self.as_of is None:
            return "there are no calls in the store yet"
        head = f"from {format_time(self.since)} to {format_time(self.as_of)}"
        return f"{head}\n\n{self._table().to_text()}" if self.events else f"{head}: nothing changed"

    def _repr_html_(self) -> str:
        """Show the events in a notebook."""
        return self._table().to_html(styled=True)

    def plot(self) -> Any:
        """Return an Altair picture: shares of versions above, metrics below, one line at each change."""
        from abtest.charts.timeline import timeline_chart

        return timeline_chart(self.to_dict())

    def _table(self) -> Table:
        rows = [[format_time(e.at), e.surface, e.message] for e in self.events]
        return Table(("when", "surface", "what happened"), rows)


def timeline(
    store: Store, *, since: str = "14d", at: str | int | None = None, surface: str | None = None, days: float = DAYS
) -> Timeline:
    """Return what changed in versions and metrics, surface by surface.

    The first 72 hours are the metrics' baseline: a metric that moves in them is not found.

    Args:
        store: An open store.
        since: How far to look back ("14d"), or a moment (RFC 3339). Name a moment to watch on day after day: a baseline that
            moves along loses the declared time between false alarms.
        at: The end; default: the newest call.
        surface: Only this surface.
        days: Average number of days between two false alarms of all metrics of a surface, or more.

    Raises:
        UsageError: A time that cannot be read.
    """
    as_of_us = parse_moment(at, key="--at") if isinstance(at, str) else newest_call(store) if at is None else at
    if as_of_us is None:
        return Timeline(None, None, days)
    start = _start(since, as_of_us)
    asked = Asked(as_of_us, store.last_file(), start, hours=True, surface=surface)
    rows = [r for r in history(store, asked) if r.last_us >= start]
    first: dict[tuple[str | None, Manifest], int] = {}
    for r in history(store, replace(asked, start_us=0, hours=False)):
        first[r.surface, r.manifest] = min(first.get((r.surface, r.manifest), r.first_us), r.first_us)
    events: list[Event] = []
    tracks: list[dict[str, Any]] = []
    for name in sorted({r.surface for r in rows}, key=lambda s: (s is None, s or "")):
        mine = [r for r in rows if r.surface == name]
        begin = max(start, min(r.first_us for r in mine))
        here = _Surface(store, name, mine, Span(begin, as_of_us, asked.max_file, name))
        changed = here.of_versions(first)
        metrics, drawn = here.of_metrics(changed, days)
        events += [*changed, *metrics]
        tracks += [*here.shares(), *drawn]
    events += [
        Event(c.at, None, c.kind, c.message, c.manifest_id)
        for c in changes_of_registry(registry(store), start, as_of_us)
    ]
    return Timeline(
        to_text(start),
        to_text(as_of_us),
        days,
        tuple(sorted(events, key=lambda e: (e.at or "", e.surface or "", e.kind))),
        tuple(tracks),
    )


@dataclass
class _Surface:
    """One surface: its rows by hour."""

    store: Store
    surface: str | None
    rows: Sequence[Seen]
    span: Span

    def __post_init__(self) -> None:
        manifests = {r.manifest for r in self.rows}
        self.parts = {m for m in manifests if whole_of(m, manifests) is not None}
        self.whole = [r for r in self.rows if r.manifest not in self.parts]

    def of_versions(self, first_seen: dict[tuple[str | None, Manifest], int]) -> list[Event]:
        """Return when manifests came, went and reached half of the traffic."""
        looked = Looked(self.span.start_us - 1, self.span.as_of_us, HOUR_US, self.whole)
        found = [
            Event(c.at, self.surface, c.kind, c.message, c.manifest_id)
            for c in changes_of_traffic(looked, first_seen)
            if c.kind != "majority" and not self._from_the_beginning(c.kind, c.at)
        ]
        return [*found, *self._halves()]

    def _from_the_beginning(self, kind: str, at: str | None) -> bool:
        """Tell whether something only seems to come because the time that is looked at begins."""
        begin = min((r.first_us for r in self.rows), default=0)
        return kind in ("appeared", "returned") and at is not None and at <= (to_text(begin + HOUR_US) or "")

    def _halves(self) -> list[Event]:
        """Return when a manifest's share of the calls that users saw went from less than half to half or more."""
        totals: dict[int, int] = defaultdict(int)
        mine: dict[Manifest, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for r in self.whole:
            if r.exposed and r.hour is not None:
                totals[r.hour] += r.calls
                mine[r.manifest][r.hour] += r.calls
        hours = sorted(totals)
        found: list[Event] = []
        for m in sorted(mine, key=lambda m: m.manifest_id):
            steps = [_step(mine[m], totals, hours, k) for k in range(len(hours))]
            for k, step in enumerate(steps):
                # Of neighbouring hours that all see the step, the one that sees most of it.
                near = [s.height for s in steps[max(k - _SIDE, 0) : k + _SIDE + 1] if s.is_half]
                if (
                    step.is_half
                    and step.height == max(near)
                    and step.height not in [s.height for s in steps[max(k - _SIDE, 0) : k] if s.is_half]
                ):
                    at = self._minute_of_half(m, hours[k - 1], hours[k], step.middle)
                    found.append(
                        Event(to_text(at), self.surface, "reached_half", f"{m.words} reached 50 %", m.manifest_id)
                    )
        return found

    def _minute_of_half(self, m: Manifest, before: int, hour: int, middle: float) -> int:
        """Return the time of a manifest's first call since the minute in which its share went up, past the middle of the step."""
        end = min((hour + 2) * HOUR_US - 1, self.span.as_of_us)
        asked = Asked(
            end, self.span.max_file, before * HOUR_US, hours=True, surface=self.surface,
            grid_us=MINUTE_US,
        )  # fmt: skip
        rows = [
            r
            for r in window(self.store, asked)
            if r.exposed and r.surface == self.surface and r.manifest not in self.parts
        ]
        minute = step_up(m, rows, middle)
        return min((r.first_us for r in rows if r.manifest == m and (r.hour or 0) >= minute), default=hour * HOUR_US)

    def of_metrics(self, versions: Sequence[Event], days: float) -> tuple[list[Event], list[dict[str, Any]]]:
        """Return the changes of metrics, each beside the version that changed before it, and the series to draw."""
        hours = read_hours(self.store, usual_signals(), self.span)
        if hours is None:
            return [], []
        found = shifts(hours, days=days)
        events = [self._event(hours, s, versions) for s in found]
        drawn = [self._track(hours, j) for j in sorted({s.signal for s in found})]
        return events, drawn

    def _event(self, hours: Hourly, shift: Shift, versions: Sequence[Event]) -> Event:
        signal = hours.signals[shift.signal]
        begin, low, high = self._minutes(hours, shift)
        cause = self._cause(begin, versions)
        text = f"{signal.words.replace('_', ' ')} {moved(shift)}"
        beside = None
        if cause is not None:
            at, event = cause
            text += f" {_apart(*(round((t - at) / MINUTE_US) for t in (begin, low, high)))} {event.message}"
            beside = event.message
        alarm = to_text(min((hours.first + shift.hour + 1) * HOUR_US, self.span.as_of_us))
        return Event(
            to_text(begin), self.surface, "metric_shift", text, None, signal.name, shift.before, shift.after, alarm, beside,
            to_text(low), to_text(high),
        )  # fmt: skip

    def _minutes(self, hours: Hourly, shift: Shift) -> tuple[int, int, int]:
        """Return the minute in which a metric most likely changed, the earliest and the latest that are nearly as likely."""
        first = (hours.first + max(shift.begin - 2, 0)) * 60
        last = (hours.first + shift.hour + 1) * 60
        begin = max(first * MINUTE_US, self.span.start_us)
        span = replace(self.span, start_us=begin, as_of_us=min(last * MINUTE_US - 1, self.span.as_of_us))
        calls, found = minutes(self.store, hours.signals[shift.signal], span, first=first, count=last - first)
        best, low, high = ((first + k) * MINUTE_US for k in split_range(calls, found, shift.before))
        return best, low, high

    def _cause(self, at_us: int, versions: Sequence[Event]) -> tuple[int, Event] | None:
        """Return the last change of a version before a moment; reaching half tells more than coming."""
        times = [(parse_moment(e.at), e) for e in versions if e.at is not None and e.kind != "stopped"]
        near = [(t, e) for t, e in times if at_us - NEAR_US <= t <= at_us + _EARLY_US]
        halves = [pair for pair in near if pair[1].kind == "reached_half"]
        return max(halves or near, key=lambda pair: pair[0], default=None)

    def shares(self) -> list[dict[str, Any]]:
        """Return the hourly share of every manifest, those with most calls first, at most five."""
        totals: dict[int, int] = defaultdict(int)
        mine: dict[Manifest, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for r in self.whole:
            if r.hour is not None:
                totals[r.hour] += r.calls
                mine[r.manifest][r.hour] += r.calls
        hours = sorted(totals)
        at = [to_text(h * HOUR_US) for h in hours]
        most = sorted(mine, key=lambda m: (-sum(mine[m].values()), m.manifest_id))[:5]
        return [
            {"surface": self.surface, "manifest_id": m.manifest_id, "words": shorten(m.words, 60), "at": at,
             "share": [mine[m][h] / totals[h] for h in hours]}
            for m in most
        ]  # fmt: skip

    def _track(self, hours: Hourly, j: int) -> dict[str, Any]:
        known = [t for t in range(hours.hours) if hours.calls[j, t] > 0]
        return {
            "surface": self.surface, "metric": hours.signals[j].name, "words": hours.signals[j].words,
            "at": [to_text((hours.first + t) * HOUR_US) for t in known],
            "share": [int(hours.events[j, t]) / int(hours.calls[j, t]) for t in known],
        }  # fmt: skip


@dataclass(frozen=True)
class _Step:
    """How a share differs between the hours before and after: its height, its middle, and whether it leads to half."""

    height: float
    middle: float
    is_half: bool


def _step(mine: Mapping[int, int], totals: Mapping[int, int], hours: Sequence[int], k: int) -> _Step:
    """Return the step at an hour: three hours before it and three from it on; an even split that wavers is none."""
    before, after = hours[max(k - _SIDE, 0) : k], hours[k : k + _SIDE]
    if not before:
        return _Step(0.0, 0.5, is_half=False)
    was, now = (sum(mine.get(h, 0) for h in group) / sum(totals[h] for h in group) for group in (before, after))
    error = math.sqrt(0.25 / sum(totals[h] for h in after))
    return _Step(
        now - was, (was + now) / 2, is_half=was < _CLEARLY_LESS and now >= 0.5 - 2 * error and now > _CLEARLY_LESS
    )


def _apart(minutes: int, low: int, high: int) -> str:
    """Return "about 12 minutes (5 to 20) after"; in hours when there are many."""
    unit, size = ("hours", 60) if minutes >= 120 else ("minutes", 1)
    around = "" if low == high else f" ({round(low / size)} to {round(high / size)})"
    return f"about {round(minutes / size)} {unit}{around} after" if minutes > 0 else "as"


def _start(since: str, as_of_us: int) -> int:
    try:
        start = as_of_us - int(duration_seconds(since) * 1e6)
    except (ValueError, KeyError, IndexError, OverflowError):
        start = parse_moment(since, key="--since")
    if start >= as_of_us:
        raise UsageError(f"{since!r} is not before the end", key="--since")
    return max(start, 0)
