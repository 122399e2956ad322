"""Splitting bytes into lines, whatever the chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.ingest import lines
from abtest.ingest.lines import LineReader


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(st.lists(st.sampled_from([b"", b"a", b"bc\r", b"\xff", b" "])), st.booleans(), st.integers(1, 7))
def test_lines_numbers_and_offsets_do_not_depend_on_the_chunks(parts: list[bytes], ends: bool, size: int) -> None:
    data = b"\n".join(parts) + (b"\n" if ends else b"")
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    reader = LineReader(chunked(data, size))
    found = []
    for line in reader:
        assert data[reader.offset : reader.offset + len(line)] == line
        found.append((reader.number, line))
    assert found == list(enumerate(expected, 1))
    if found:
        assert reader.terminated is data.endswith(b"\n")


def test_byte_order_mark_is_dropped_once() -> None:
    assert list(LineReader([b"\xef\xbb\xbf{}\n\xef\xbb\xbf{}\n"])) == [b"{}", b"\xef\xbb\xbf{}"]


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_a_line_too_long_is_cut_and_the_next_one_is_read(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 100)
    monkeypatch.setattr(lines, "RAW_LIMIT", 10)
    data = b"a" * 500 + b"\nshort\n" + b"b" * 300
    reader = LineReader(chunked(data, size))
    found = [(line[:10], reader.too_long, reader.number, reader.offset) for line in reader]
    assert found == [(b"a" * 10, True, 1, 0), (b"short", False, 2, 501), (b"b" * 10, True, 3, 507)]


def test_a_stream_that_begins_in_the_middle_of_a_file() -> None:
    reader = LineReader([b"a\nb"], number=7, offset=100)
    assert [(line, reader.number, reader.offset, reader.end, reader.terminated) for line in reader] == [
        (b"a", 8, 100, 102, True),
        (b"b", 9, 102, 103, False),
    ]
    assert list(LineReader([b"\xef\xbb\xbf{}\n"], number=1, offset=9)) == [b"\xef\xbb\xbf{}"]
