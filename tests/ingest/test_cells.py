"""Cells: what CSV, Parquet and JSON write for the same value is the same; what is no such value is not made into one."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from abtest.ingest.cells import array, count, elapsed, finite, flag, moment, number, pairs, parsed, text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (14, 14),
        ("14", 14),
        (14.0, 14),
        ("14.0", 14),
        ("-3", -3),
        ("", None),
        (None, None),
        ("many", "many"),
        (1.5, 1.5),
        (True, True),
        ([], []),
        ("9" * 30, int(1e30)),
        ("1_000", "1_000"),
        ("٣", "٣"),
    ],
)
def test_count(value: Any, expected: Any) -> None:
    assert count(value) == expected
    assert type(count(value)) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1.5", 1.5), ("1e-3", 0.001), ("1e999", math.inf), ("", None), ("nan", "nan"), ("0x10", "0x10"), ({}, {})],
)
def test_number(value: Any, expected: Any) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", math.nan, math.inf, 10**400, True, None, "", "x", [], {}])
def test_what_is_no_finite_number(value: Any) -> None:
    assert finite(value) is None


def test_flag() -> None:
    assert [flag(value) for value in (True, "true", "False", "", None, "maybe", 1)] == [
        True,
        True,
        False,
        None,
        None,
        "maybe",
        1,
    ]


def test_text() -> None:
    assert [text(value) for value in ("a", 7, 1.5, "", None, True, [], math.nan, 10**30)] == [
        "a",
        "7",
        "1.5",
        *[None] * 6,
    ]


def test_json_inside_text() -> None:
    assert parsed('{"a":1}') == {"a": 1}
    assert parsed('"a"') == "a"
    assert parsed("[1] Paris") == "[1] Paris"
    assert parsed('{"a":NaN}') == '{"a":NaN}'
    assert pairs('{"a":1}') == pairs([{"key": "a", "value": 1}]) == pairs([["a", 1]]) == {"a": 1}
    assert pairs("x") == pairs(None) == pairs([1, {"b": 2}]) == {}
    assert array('["a"]') == ["a"]
    assert array("a") == array({}) == []


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-01 12:00:00",
        "2026-11-01T12:00:00.000000000Z",
        "2026-11-01t12:00:00z",
        "2026-11-01 13:00:00+01",
        "2026-11-01 13:30:00.0+0130",
        "2026-11-01 12:00:00+00:00",
    ],
)
def test_moment(value: str) -> None:
    assert moment(value, "t") == datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "2026-11-01",
        "2026-02-30 00:00:00",
        "2026-11-01 25:00:00",
        "9999-12-31 23:59:59-14:00",
        1795398993,
        [],
        True,
    ],
)
def test_what_is_no_moment(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^t: "):
        moment(value, "t")


def test_elapsed() -> None:
    start, end = moment("2026-11-01 12:00:00.000001", "t"), moment("2026-11-02 12:00:00.000003", "t")
    assert elapsed(start, end) == 86_400_000.002
    assert elapsed(start, start) == 0
    assert elapsed(end, start) is elapsed(None, end) is elapsed(start, None) is None
