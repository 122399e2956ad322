"""Durations, tokens and cost of a Langfuse observation: units by the data, token categories added up.

`latency` and `time_to_first_token` are seconds, but milliseconds in exports whose integration is older than
2026-04-01, and no column says which. The times of the row are exact, so they are used wherever they are there.
"""

from __future__ import annotations

from typing import Any

from abtest.ingest.cells import count, elapsed, finite, moment, number, pairs

INPUT, OUTPUT = ("input", "prompt"), ("output", "completion")
TOTALS = ("total", "total_tokens")


def timing(row: dict[str, Any]) -> dict[str, Any]:
    """Return latency_ms and ttft_ms.

    Where both times are there, their difference counts. Where only the logged duration is there, its unit is that
    which fits the row's own latency to its times; without such a row-internal proof it is seconds.

    Raises:
        ValueError: A time of the row is none.
    """
    start = moment(row.get("start_time"), "start_time")
    end = moment(row.get("end_time"), "end_time")
    exact = elapsed(start, end)
    first = elapsed(start, moment(row.get("completion_start_time"), "completion_start_time"))
    scale = _scale(finite(row.get("latency")), exact)
    return {
        "latency_ms": _milliseconds(row.get("latency"), scale) if exact is None and end is None else exact,
        "ttft_ms": _milliseconds(row.get("time_to_first_token"), scale) if first is None else first,
    }


def _scale(logged: float | None, exact: float | None) -> float:
    """Return the milliseconds in one unit of this row: 1 when the logged latency is nearer to them than to seconds."""
    if logged is None or exact is None:
        return 1000
    return 1 if abs(logged - exact) < abs(logged * 1000 - exact) else 1000


def _milliseconds(value: Any, scale: float) -> Any:
    known = finite(value)
    return number(value) if known is None else known * scale


def tokens(row: dict[str, Any]) -> dict[str, Any]:
    """Return the token columns. Langfuse counts disjoint categories, so all that name input are added up, and so on.

    `{"input": 10, "input_cached_tokens": 4}` is 14 tokens in. The one exception shows in the row: when `total` is
    `input` + `output` alone, the details are parts of these and not added.
    """
    details = {name: count(value) for name, value in _details(row).items()}
    known = {name: value for name, value in details.items() if value is not None}
    bad = next((value for value in known.values() if not _is_count(value)), None)
    if bad is not None:
        return {"input_tokens": bad, "output_tokens": None, "cached_input_tokens": None, "reasoning_tokens": None}
    entered, produced = _named(known, INPUT), _named(known, OUTPUT)
    total = next((known[name] for name in TOTALS if name in known), None)
    if {"input", "output"} <= known.keys() and total == known["input"] + known["output"]:
        sums = (known["input"], known["output"])
    else:
        sums = (_sum(entered), _sum(produced))
    cached = {name: value for name, value in entered.items() if "cached" in name or "cache_read" in name}
    thought = {name: value for name, value in known.items() if "reasoning" in name}
    return {
        "input_tokens": sums[0],
        "output_tokens": sums[1],
        "cached_input_tokens": _sum(cached),
        "reasoning_tokens": _sum(thought),
    }


def cost(row: dict[str, Any]) -> Any:
    """Return the cost in USD; 0 without any detail of it is the export's default and means unknown."""
    details = pairs(row.get("cost_details"))
    total = number(row.get("total_cost"))
    if total is None:
        total = number(row.get("calculated_total_cost"))
    if total is None:
        total = number(details.get("total"))
    if "cost_details" in row and not details and finite(total) == 0:
        return None
    known = finite(total)
    return total if known is None else known


def _details(row: dict[str, Any]) -> dict[str, Any]:
    """Return `usage_details`, else the older `usage` without its unit."""
    details = pairs(row.get("usage_details"))
    if details:
        return details
    return {name: value for name, value in pairs(row.get("usage")).items() if name in ("input", "output", "total")}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _named(known: dict[str, Any], parts: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if any(part in name for part in parts)}


def _sum(known: dict[str, Any]) -> int | None:
    return sum(known.values()) if known else None
