"""What one row of the logs adds to a metric, as SQL: a numerator, a denominator, and the value of a quantile.

A request of one call and a request of several attempts read differently (the second needs windows over its attempts), so
every expression comes in two forms: over `i`, a row of the logs, and over `c`, an attempt with its rank in its request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from abtest.metrics.base import Measure

How = Literal["flag", "real", "whole"]
REQUEST = "over (partition by c.unit_key, c.arm, c.request_key)"
HALF_EVEN = "6755399441055744e0"
"""1.5 * 2^52: adding and subtracting it rounds a double below 2^51 to the nearest whole number, without a call of floor()."""
EXACT = 2**51
"""Below this `HALF_EVEN` rounds exactly, and sums of whole numbers are exact in a double, in any order (up to 2^53 even)."""
WHOLE = "4503599627370496e0"
"""2^52: from here on a double has no fraction; below, adding and subtracting it rounds a positive one."""


@dataclass(frozen=True)
class Tally:
    """One number of a row.

    Attributes:
        single: Expression for a request of one call.
        attempt: Expression for one attempt of several.
        how: "flag": 1 or NULL, counted; "real": a whole number in a double, or NULL, summed; "whole": BIGINT or NULL, summed.
        scored: It needs the scores of the row.
        per: What a flag is at most: one a request, or one a call.
    """

    single: str
    attempt: str
    how: How
    scored: bool = False
    per: str = "requests"

    def total(self, column: str) -> str:
        """Return the sum over rows, a BIGINT; 0 where there is nothing."""
        return f"count({column})" if self.how == "flag" else f"cast(coalesce(sum({column}), 0) as bigint)"


@dataclass(frozen=True)
class RowMeasure:
    """A metric's numerator and denominator a row; `value` is what a quantile (or a cap) is taken of."""

    x: Tally
    y: Tally
    value: Tally | None = None


@dataclass(frozen=True)
class RowRules:
    """What decides how a row reads, besides the metric.

    Attributes:
        add_up: Numbers of all attempts of a request are added (`per_request = "sum"`).
        limits: metric -> (control's, treatments') threshold of a quantile, as placeholders; metric -> cap likewise.
        caps: metric -> placeholder of the cap.
        control: Placeholder of control's name.
        arm: Expression of the row's arm, over `i`.
        wide: Add in BIGINT instead of doubles: for numbers whose sums could leave the exact range of a double.
        mature: metric -> placeholder of the moment after which a call is too young to count.
    """

    add_up: bool = False
    limits: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    caps: Mapping[int, str] = field(default_factory=dict)
    control: str = ""
    arm: str = ""
    wide: bool = False
    mature: Mapping[int, str] = field(default_factory=dict)


def number(value: str) -> str:
    """Return the condition that an expression is a finite number: NaN compares as the largest, NULL as unknown."""
    return f"abs({value}) < 1e308"


def fixed(value: str, scale: int, *, wide: bool = True) -> str:
    """Return a number as whole multiples of 1/scale, ties to even; a BIGINT, or a double (exact below 2^51) when not `wide`."""
    x = f"({value}) * {scale}e0"
    if not wide:
        return f"{x} + {HALF_EVEN} - {HALF_EVEN}"
    return (
        f"cast(case when abs({x}) >= {WHOLE} then {x} when {x} < 0 then {x} - {WHOLE} + {WHOLE}"
        f" else {x} + {WHOLE} - {WHOLE} end as bigint)"
    )


def row_measure(j: int, m: Measure, rules: RowRules) -> RowMeasure:
    """Return what metric number `j` reads off a row."""
    row = _row_measure(j, m, rules)
    until = rules.mature.get(j)
    if until is None:
        return row
    value = row.value and _when_mature(row.value, m, until)
    return RowMeasure(_when_mature(row.x, m, until), _when_mature(row.y, m, until), value)


def _when_mature(tally: Tally, m: Measure, until: str) -> Tally:
    """Return what counts only of calls up to a moment; the attempts of a request are as old as the one that stands for it."""
    moment = "c.ts_us" if m.per == "call" else "c.head_us"
    return replace(
        tally,
        single=f"case when i.ts_us <= {until} then {tally.single} end",
        attempt=f"case when {moment} <= {until} then {tally.attempt} end",
    )


def _row_measure(j: int, m: Measure, rules: RowRules) -> RowMeasure:
    if m.score:
        return _scored(j, m)
    assert m.numerator is not None
    if m.event:
        return RowMeasure(
            _both(m, m.numerator.sql, "case when {h}({e}) then 1 end", "flag"),
            _both(m, m.numerator.sql, "case when {h}({e}) is not null then 1 end", "flag"),
        )
    if m.quantile:
        return _quantile(j, m, rules)
    return _number(j, m, rules)


def _both(m: Measure, sql: Callable[[str], str], form: str, how: How) -> Tally:
    return Tally(form.format(h="", e=sql("i")), form.format(h=_head(m), e=sql("c")), how, per=_per(m))


def _per(m: Measure) -> str:
    return "calls" if m.per == "call" else "requests"


def _head(m: Measure) -> str:
    """Return the condition that the attempt stands for its request, with AND; nothing where calls are counted."""
    return "" if m.per == "call" else "c.call_rank = 1 and "


def _number(j: int, m: Measure, rules: RowRules) -> RowMeasure:
    assert m.numerator is not None
    add_up = rules.add_up and m.per != "call"
    how: How = "whole" if rules.wide else "real"
    texts: dict[str, tuple[str, str, str]] = {}
    for alias in "ic":
        value = f"({m.numerator.sql(alias)})"
        capped = f"least({value}, {rules.caps[j]})" if j in rules.caps else value
        head = _head(m) if alias == "c" else ""
        if m.denominator is not None:
            below = f"({m.denominator.sql(alias)})"
            known = f"{number(value)} and {number(below)}"
            here = known if add_up else head + known
            y = f"case when {here} then {fixed(below, m.scale, wide=rules.wide)} end"
        else:
            known = number(value)
            here = known if add_up else head + known
            y = f"case when {head}{known} then 1 end"
            if add_up and alias == "c":
                y = f"case when c.call_rank = 1 and max(case when {known} then 1 else 0 end) {REQUEST} = 1 then 1 end"
        touched = f"case when {here} then cast({value} as double) end"
        texts[alias] = (f"case when {here} then {fixed(capped, m.scale, wide=rules.wide)} end", y, touched)
    single, attempt = texts["i"], texts["c"]
    return RowMeasure(
        Tally(single[0], attempt[0], how),
        Tally(single[1], attempt[1], how if m.denominator is not None else "flag", per=_per(m)),
        Tally(single[2], attempt[2], "real"),
    )


def _quantile(j: int, m: Measure, rules: RowRules) -> RowMeasure:
    assert m.numerator is not None
    single, attempt = (f"({m.numerator.sql(alias)})" for alias in "ic")
    known = {"i": number(single), "c": _head(m) + number(attempt)}
    value = {"i": single, "c": attempt}
    if rules.add_up and m.per != "call":
        value["c"] = f"sum(case when {number(attempt)} then {attempt} end) {REQUEST}"
        known["c"] = f"c.call_rank = 1 and {value['c']} is not null"
    flags = [f"case when {known[a]} then 1 end" for a in "ic"]
    texts = [f"case when {known[a]} then cast({value[a]} as double) end" for a in "ic"]
    values = Tally(texts[0], texts[1], "real")
    if j not in rules.limits:
        return RowMeasure(
            Tally("null", "null", "flag", per=_per(m)), Tally(flags[0], flags[1], "flag", per=_per(m)), values
        )
    low, high = rules.limits[j]
    over = [
        f"case when {known[a]} and {value[a]} > "
        + (low if low == high else f"(case when {arm} = {rules.control} then {low} else {high} end)")
        + " then 1 end"
        for a, arm in (("i", f"({rules.arm})"), ("c", "c.arm"))
    ]
    return RowMeasure(
        Tally(over[0], over[1], "flag", per=_per(m)), Tally(flags[0], flags[1], "flag", per=_per(m)), values
    )


def _scored(j: int, m: Measure) -> RowMeasure:
    """Return a score's sums; an event happened when the mean of the request's scores is at least one half."""
    total, count = f"s.sx{j}", f"s.sy{j}"
    if not m.event:
        return RowMeasure(Tally(total, total, "whole", scored=True), Tally(count, count, "whole", scored=True))
    over_total, over_count, head = total, count, ""
    if m.per != "call":
        over_total, over_count = (f"sum(coalesce({v}, 0)) {REQUEST}" for v in (total, count))
        head = "c.call_rank = 1 and "
    x, y = [], []
    for above, below, first in ((total, count, ""), (over_total, over_count, head)):
        x.append(f"case when {first}{below} > 0 and 2 * {above} >= {m.scale} * {below} then 1 end")
        condition = "c.call_rank = 1" if head and first else "true"
        y.append(f"case when {condition if m.absent_is_zero else f'{first}{below} > 0'} then 1 end")
    return RowMeasure(
        Tally(x[0], x[1], "flag", scored=True, per=_per(m)), Tally(y[0], y[1], "flag", scored=True, per=_per(m))
    )
