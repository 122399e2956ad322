"""Cutting JSON arrays and objects over several lines into elements, whatever the chunks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.ingest.elements import ElementReader

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(['"', "\\", "]", "{,", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def read(data: bytes, size: int = 1 << 20, limit: int = 1 << 20) -> list[tuple[bytes, int, int, bool]]:
    reader = ElementReader((data[at : at + size] for at in range(0, len(data), size)), limit=limit)
    return [(element, reader.number, reader.offset, reader.whole) for element in reader]


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1, 3]), st.integers(1, 9), st.booleans())
def test_an_array_gives_back_its_elements(
    values: list[object], indent: int | None, size: int, ascii_only: bool
) -> None:
    data = b"\xef\xbb\xbf " + json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode() + b"\n"
    found = read(data, size)
    assert [json.loads(element) for element, *_ in found] == values
    for element, number, offset, whole in found:
        assert data[offset : offset + len(element)] == element
        assert number == data[:offset].count(b"\n") + 1
        assert whole


@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=4), st.integers(1, 9))
def test_objects_one_after_the_other(values: list[object], size: int) -> None:
    data = "\n".join(json.dumps(value, indent=2) for value in values).encode()
    assert [json.loads(element) for element, *_ in read(data, size)] == values


@given(st.lists(VALUES, min_size=1, max_size=4), st.data(), st.integers(1, 9))
def test_a_cut_array_gives_its_whole_elements_and_then_the_rest(
    values: list[object], data: st.DataObject, size: int
) -> None:
    whole = json.dumps(values).encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    found = read(whole[:cut], size)
    assert [each for each in found if not each[3]] == found[-1:]
    good = [json.loads(element) for element, *_, is_whole in found if is_whole]
    assert good == values[: len(good)]
    assert len(good) >= len(values) - 1 or cut < len(whole) - 1


def test_a_broken_element_does_not_hide_its_neighbours() -> None:
    found = read(b'[{"a": 1}, {"b" 2}, 7, "x", {"c": NaN}, {"d": \xff}]')
    assert [element for element, *_ in found] == [
        b'{"a": 1}', b'{"b" 2}', b"7", b'"x"', b'{"c": NaN}', b'{"d": \xff}',
    ]  # fmt: skip


def test_several_arrays_and_noise_between_them() -> None:
    found = read(b'[{"a":1}]\nnoise {\n[{"b":2},]{"c":3}')
    assert [(element, number) for element, number, *_ in found] == [
        (b'{"a":1}', 1), (b"noise {", 2), (b'{"b":2}', 3), (b'{"c":3}', 3),
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"  \n", b"[]", b" [ ] \n", b"\xef\xbb\xbf[]"])
def test_nothing_in_it(data: bytes) -> None:
    assert read(data) == []


def test_an_element_past_the_limit_ends_the_reading() -> None:
    reader = ElementReader([b'[{"a": 1}, {"b": "', b"x" * 5000, b'"}, {"c": 3}]'], limit=1000)
    found = [(element[:4], reader.whole, reader.too_long) for element in reader]
    assert found == [(b'{"a"', True, False), (b'{"b"', False, True)]


def test_lines_are_counted_to_the_end() -> None:
    for data, lines in ((b"[\n1\n]\n", 3), (b"[\n1\n]", 3), (b"", 0), (b"\n\n", 2)):
        reader = ElementReader([data], limit=1000)
        list(reader)
        assert reader.lines == lines, data


def test_deep_nesting_takes_no_stack() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert [element for element, *_ in read(b"[" + deep + b", 1]")] == [deep, b"1"]
