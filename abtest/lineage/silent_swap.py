"""The watch on an experiment's baseline: nobody meant to change it, so whatever changes there changed silently.

First what needs no statistics, another response model or system fingerprint (`integrity`); then the baseline's metrics against
their own beginning (`drift`). A drift alone never holds a release: it is reported, with the versions that changed beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from abtest.analysis.times import to_text, to_us
from abtest.display import format_time
from abtest.lineage.arms import calls_of_release
from abtest.lineage.drift import BASELINE_HOURS, Shift, shifts
from abtest.lineage.integrity import answers_changed, fingerprints, swaps
from abtest.lineage.seen import Seen, newest_call
from abtest.lineage.signals import Hourly, Signal, Span, hourly, signals_of, with_thresholds
from abtest.results import Finding
from abtest.spec import Experiment
from abtest.store.query import HOUR_US
from abtest.store.store import Store

CODES = ("baseline_drift",)
DAYS = 3650.0
"""Average days between false alarms of one experiment: ten years, so that one of two weeks has one in 250 at most."""
MOST_CALLS = 300_000
"""Calls of the baseline up to which every decision reads its hours (about half a second); above, the timeline does."""


def silent_swap(
    store: Store,
    experiment: Experiment,
    as_of_us: int | None = None,
    max_file: int | None = None,
    *,
    days: float = DAYS,
) -> list[Finding]:
    """Return everything that changed in the baseline of an experiment, however many calls it has.

    Args:
        store: An open store.
        experiment: Its control is the baseline.
        as_of_us: Calls up to this moment; default: the newest one.
        max_file: What was loaded up to here; default: everything.
        days: Average number of days between two false alarms of its metrics, or more.
    """
    as_of_us = newest_call(store) if as_of_us is None else as_of_us
    max_file = store.last_file() if max_file is None else max_file
    if as_of_us is None:
        return []
    rows, hours = (
        [r for r in calls_of_release(store, experiment, as_of_us, max_file, hours=h) if r.variant == experiment.control]
        for h in (False, True)
    )
    told = [*swaps(rows, 0), *answers_changed(hours, 0, strict=True), *fingerprints(hours, 0)]
    return told + drift_findings(store, experiment, rows, as_of_us, max_file, days=days, most_calls=None)


def drift_findings(
    store: Store,
    experiment: Experiment,
    rows: Sequence[Seen],
    as_of_us: int,
    max_file: int,
    *,
    days: float = DAYS,
    most_calls: int | None = MOST_CALLS,
) -> list[Finding]:
    """Return the alarms of the baseline's metrics; none where the logs do not name the arm, or there are too many calls.

    Args:
        store: An open store.
        experiment: Its control is the baseline.
        rows: What ran in the release, by arm (`findings.calls_of_release`).
        as_of_us: Calls up to this moment.
        max_file: What was loaded up to here.
        days: Average number of days between two false alarms, or more.
        most_calls: Do not look at more calls than this; None: whatever it takes.
    """
    kept = [r for r in rows if r.variant == experiment.control and r.experiment == experiment.id]
    calls = sum(r.calls for r in kept)
    if not kept or (most_calls is not None and calls > most_calls):
        return []
    first = min(r.first_us for r in kept)
    start = max(first, to_us(experiment.start)) if experiment.start else first
    end = min(as_of_us, to_us(experiment.end)) if experiment.end else as_of_us
    if end - start < BASELINE_HOURS * HOUR_US:
        return []
    span = Span(start, end, max_file, None, experiment.id, experiment.control, experiment.where_expression())
    series = read_hours(store, signals_of(experiment), span)
    return [_finding(series, s) for s in shifts(series, days=days)] if series else []


def read_hours(store: Store, signals: Sequence[Signal], span: Span) -> Hourly | None:
    """Read the signals of a span, their thresholds from its baseline; None where there is none."""
    begin = replace(span, as_of_us=(span.start_us // HOUR_US + BASELINE_HOURS) * HOUR_US - 1)
    usable = with_thresholds(store, signals, begin)
    return hourly(store, usable, span) if usable else None


def _finding(series: Hourly, shift: Shift) -> Finding:
    signal = series.signals[shift.signal]
    text = (
        f"the baseline itself changed: {signal.words} {moved(shift)}, since about"
        f" {format_time(to_text((series.first + shift.begin) * HOUR_US))}"
    )
    return Finding("baseline_drift", "warning", signal.name, text)


def moved(shift: Shift) -> str:
    """Return "rose from 0.4 % to 3.1 %"."""
    verb = "rose" if shift.after > shift.before else "fell"
    return f"{verb} from {percent(shift.before)} to {percent(shift.after)}"


def percent(value: float) -> str:
    """Return a share with about two digits that count: 0.41 %, 3.1 %, 42 %."""
    points = 100.0 * value
    places = 0 if points >= 10 else 1 if points >= 1 else 2
    return f"{points:.{places}f} %"
