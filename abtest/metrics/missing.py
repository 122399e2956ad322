"""What a metric says about rows that cannot tell: NULL is no value, and too many of them are no metric."""

from __future__ import annotations

import math

from abtest.errors import InvalidInputError
from abtest.metrics.base import Measure, MetricSpec

FEW = 0.05
"""Share of rows that cannot tell from which on the result mentions it."""
MOST = 0.5
"""Share from which on the result says that it speaks for a minority."""
APART = 0.05
"""Difference of that share between two arms from which on the comparison itself is in doubt."""
_CHANCE = 4.0
"""Standard errors below which such a difference may be chance; clustered rows need more than the usual two or three."""


def missing_note(metric: MetricSpec, known: int, total: int) -> str | None:
    """Return what to say about rows of a metric's population that cannot tell, or None when there is nothing to say.

    Args:
        metric: Whose rows; the words depend on its kind and on what it reads.
        known: Rows (requests or calls, see `per`) that could tell, both arms together.
        total: Rows of the population.

    Raises:
        InvalidInputError: counts that are negative, or more known rows than rows.
    """
    _check(known, total)
    measure = metric.measure()
    if total == 0 or known == total or measure.absent_is_zero:
        return None  # where absence means "it did not happen", every row tells
    rows = "calls" if measure.per == "call" else "requests"
    what = _what_is_missing(measure)
    if known == 0:
        return f"none of {total:,} {rows} can tell: {what} in every one"
    share = 1 - known / total
    if share < FEW and not (measure.score and share > 0):
        return None
    if measure.score:
        # Scores are samples by design: how many there are is always worth saying, that there are not more is no fault.
        return f"{known:,} of {total:,} {rows} ({_percent(1 - share)}) have the score {measure.score}"
    start = "only " if share >= MOST else ""
    told = f"{start}{known:,} of {total:,} {rows} can tell ({_percent(share)} cannot: {what})"
    consequence = _consequence(metric, measure) if share >= MOST else ""
    return f"{told}; {consequence}" if consequence else told


def unseen_note(metric: MetricSpec, events: int) -> str | None:
    """Return why a metric of clicks (`absent = "no"`) cannot be judged while no request at all has the event, or None.

    Where a missing score means "it did not happen", logs that do not record it look as if nobody ever clicked: no pass.

    Args:
        metric: Any metric; only those of clicks get a sentence.
        events: Rows with the event, both arms together.
    """
    measure = metric.measure()
    if not measure.absent_is_zero or events > 0:
        return None
    return f"no request has the score {measure.score}: it never happened, or it is not logged"


def missing_gap_note(metric: MetricSpec, control: tuple[int, int], treatment: tuple[int, int]) -> str | None:
    """Return a warning when one arm cannot tell much more often than the other: what is missing may be what differs.

    Args:
        metric: Whose rows.
        control: (rows that could tell, rows) of control.
        treatment: The same of the treatment.
    """
    for known, total in (control, treatment):
        _check(known, total)
    measure = metric.measure()
    n_control, n_treatment = control[1], treatment[1]
    if min(n_control, n_treatment) == 0 or measure.absent_is_zero:
        return None
    shares = [1 - known / total for known, total in (control, treatment)]
    pooled = 1 - (control[0] + treatment[0]) / (n_control + n_treatment)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n_control + 1 / n_treatment))
    gap = shares[1] - shares[0]
    if abs(gap) < APART or abs(gap) <= _CHANCE * error:
        return None
    return (
        f"{_percent(shares[0])} of control's rows and {_percent(shares[1])} of the treatment's cannot tell: the rows that can "
        "may no longer be alike"
    )


def _what_is_missing(measure: Measure) -> str:
    if measure.score:
        return f"there is no score {measure.score}"
    if "ts_us" in measure.columns:  # only a dated price reads the time
        return "the cost is neither logged nor determined by the price book"
    names = sorted(measure.columns)
    return f"{names[0]} is NULL" if len(names) == 1 else f"what is made of {', '.join(names)} is NULL"


def _consequence(metric: MetricSpec, measure: Measure) -> str:
    """Return what NULLs do to this kind of metric."""
    if metric.kind == "count":
        return "the others count as rows without the event"
    if metric.kind == "quantile":
        return "calls that never ended may be the slowest, and they are left out"
    if metric.kind == "ratio":
        return "the others add neither to the numerator nor to the denominator"
    if measure.per_unit_total:
        return "units without a row that can tell are left out"
    return "the result speaks for those alone"


def _check(known: int, total: int) -> None:
    if not 0 <= known <= total:
        raise InvalidInputError(f"{known} of {total} rows cannot be")


def _percent(share: float) -> str:
    """Return 0 < share < 1 as a percentage that never rounds to "0 %" or "100 %"."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{share * 100:.3g} %"
