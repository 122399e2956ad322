"""Numbers and times as people write them, in the unit of the metric; what is not known is a dash, never 0."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from abtest.display.text import NOTHING, clean, shorten

_SHARES = frozenset({"share", "fraction", "proportion", "points", "pp"})
_DOLLARS = re.compile(r"(?:\$|usd\b)\s*", re.IGNORECASE)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Unit:
    """How a number of a metric is written: `prefix`, the number times `factor`, `suffix`."""

    factor: float
    prefix: str
    suffix: str


def unit_of(metric: Mapping[str, Any], *, level: bool = False) -> Unit:
    """Return the unit of differences of a metric or, with `level`, of its values (a proportion: "%", else "pp")."""
    unit = clean(metric.get("unit") or "")
    if metric.get("kind") == "proportion" or unit.lower() in _SHARES:
        return Unit(100.0, "", " %" if level else " pp")
    dollars = _DOLLARS.match(unit)
    if dollars:
        unit = unit[dollars.end() :]
    unit = "" if unit == "1" else shorten(unit, 24)
    return Unit(1.0, "$" if dollars else "", f" {unit}" if unit else "")


def margin_unit(metric: Mapping[str, Any]) -> Unit:
    """Return the unit of the margin and of the harm bounds: "%" for a relative margin, else the metric's own."""
    return Unit(100.0, "", " %") if metric.get("margin_kind") == "relative" else unit_of(metric)


def format_value(metric: Mapping[str, Any], value: float | None) -> str:
    """Return a level of the metric (one arm's value) with three digits: "4.21 %", "1,240 ms", "$0.0123"."""
    number = _finite(value)
    unit = unit_of(metric, level=True)
    if number is None:
        return NOTHING
    return _number(number * unit.factor, _decimals(number * unit.factor, digits=3), unit, sign=False) + unit.suffix


def format_effect(metric: Mapping[str, Any], *, relative: bool = False) -> str:
    """Return the effect with its interval, in the metric's unit: "+3.1 pp [+1.9, +4.6]"; relative: "+38 % [+21, +57]".

    All three numbers get the decimals that show half the width of the interval with two digits. A bound that is not
    known is a dash; an effect that is not known is a dash alone.
    """
    if relative:
        keys, unit = ("relative_estimate", "relative_ci_lower", "relative_ci_upper"), Unit(100.0, "", " %")
    else:
        keys, unit = ("estimate", "ci_lower", "ci_upper"), unit_of(metric)
    value, lower, upper = (_scaled(metric.get(key), unit) for key in keys)
    if value is None:
        return NOTHING
    if lower is None and upper is None:
        return _number(value, _decimals(value, digits=2), unit) + unit.suffix
    radius = (upper - lower) / 2 if lower is not None and upper is not None else value
    places = _decimals(radius or value, digits=2)
    low, high = (NOTHING if bound is None else _number(bound, places, unit) for bound in (lower, upper))
    return f"{_number(value, places, unit)}{unit.suffix} [{low}, {high}]"


def format_margin(metric: Mapping[str, Any]) -> str:
    """Return the margin, signed in the direction that does harm: "+1 pp", "+40 %"; "-2 pp" where higher is better."""
    unit = margin_unit(metric)
    margin = _scaled(metric.get("margin"), unit)
    if margin is None:
        return NOTHING
    sign = "-" if metric.get("better") == "higher" else "+"
    return f"{sign}{unit.prefix}{_short_number(abs(margin))}{unit.suffix}"


def format_harm(metric: Mapping[str, Any]) -> str:
    """Return the range of harm in the margin's unit, larger is worse: "+1.9 to +4.6 pp"; negative is an improvement."""
    unit = margin_unit(metric)
    lower, upper = (_scaled(metric.get(key), unit) for key in ("harm_lower", "harm_upper"))
    if lower is not None and upper is not None:
        places = _decimals((upper - lower) / 2 or upper, digits=2)
        return f"{_number(lower, places, unit)} to {_number(upper, places, unit)}{unit.suffix}"
    for words, bound in (("at least", lower), ("at most", upper)):
        if bound is not None:
            return f"{words} {_number(bound, _decimals(bound, digits=2), unit)}{unit.suffix}"
    return NOTHING


def format_share(value: float | None) -> str:
    """Return a share or an error level as a percentage without needless zeros: 0.05 is "5 %"."""
    number = _finite(value)
    return NOTHING if number is None else f"{_short_number(number * 100)} %"


def format_pvalue(value: float | None) -> str:
    """Return a p-value with two digits; below 0.0001 as "< 0.0001"."""
    number = _finite(value)
    if number is None:
        return NOTHING
    return "< 0.0001" if number < 0.0001 else f"{number:.2g}" if number < 0.1 else f"{number:.2f}"


def format_time(value: object) -> str:
    """Return an ISO time as "22 Nov 2026, 14:00 UTC"; text that is no time is returned cleaned, None as a dash."""
    if value is None:
        return NOTHING
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return shorten(value, 40)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M} UTC"


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _scaled(value: Any, unit: Unit) -> float | None:
    number = _finite(value)
    return None if number is None else number * unit.factor


def _decimals(value: float, *, digits: int) -> int:
    """Return how many decimals show `value` with `digits` significant digits: 0 for large numbers, at most 8."""
    if value == 0:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 8)


def _number(value: float, places: int, unit: Unit, *, sign: bool = True) -> str:
    body = f"{abs(value):,.{places}f}" if abs(value) < 1e12 else f"{abs(value):.3g}"
    rounds_to_zero = not any(c in "123456789" for c in body)
    mark = "" if rounds_to_zero else "-" if value < 0 else "+" if sign else ""
    return mark + unit.prefix + body


def _short_number(value: float) -> str:
    if value != 0 and not 1e-4 <= abs(value) < 1e12:
        return f"{value:.3g}"
    return f"{value:,.6f}".rstrip("0").rstrip(".")
