"""What every format has to keep, whoever adds it: the registry is walked, nothing here names a format."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.errors import LogReadError, UsageError
from abtest.ingest import Format, Ignored, Reject, detect, formats, get
from abtest.ingest.base import RAW_LIMIT, parse_object
from abtest.records import Assignment, Interaction, Score

FIXTURES = Path(__file__).parent / "fixtures"
RECORDS = (Interaction, Assignment, Score)
ALL = list(formats().values())
GARBAGE = [
    b"{}",
    b"[]",
    b"null",
    b"42",
    b'"text"',
    b"\x00",
    b"\xff\xfe",
    b'{"a":',
    b'{"a":NaN}',
    b'{"a":"\\ud800"}',
    b"[" * 5000,
    b'{"a":' * 5000,
    b'{"a":1}{"b":2}',
]

by_name = pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)


def logs_of(fmt: Format) -> list[Path]:
    return [file for file in sorted((FIXTURES / fmt.name).iterdir()) if file.suffix != ".md"]


def texts_of(file: Path) -> list[bytes]:
    """Return the JSON texts of a file as its container would: of an array on one line, the elements."""
    texts: list[bytes] = []
    for line in filter(None, file.read_bytes().split(b"\n")):
        texts += [json.dumps(each).encode() for each in json.loads(line)] if line.startswith(b"[") else [line]
    return texts


def lines_of(fmt: Format) -> list[bytes]:
    return [text for file in logs_of(fmt) for text in texts_of(file)]


def test_registry_has_the_formats_of_the_first_release() -> None:
    assert {"native", "otel", "litellm"} <= set(formats())
    assert list(formats()) == sorted(formats())


@by_name
def test_name_and_description(fmt: Format) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", fmt.name)
    assert len(fmt.description) < 120
    assert "\n" not in fmt.description
    assert get(fmt.name) is fmt


@by_name
def test_recognises_its_own_logs_and_no_other_format_claims_them(fmt: Format) -> None:
    for file in logs_of(fmt):
        objects = [parse_object(text) for text in texts_of(file)]
        assert detect(objects, file=file.name) is fmt
        for other in ALL:
            assert 0 <= other.sniff(objects) <= 1


@by_name
def test_reads_its_own_logs_without_a_reject(fmt: Format) -> None:
    items = [item for number, line in enumerate(lines_of(fmt), 1) for item in fmt.read(line, number, 0)]
    assert any(isinstance(item, Interaction) for item in items)
    assert [item for item in items if isinstance(item, Reject)] == []
    assert all(isinstance(item, (*RECORDS, Ignored)) for item in items)


@by_name
def test_is_deterministic(fmt: Format) -> None:
    for line in lines_of(fmt):
        assert list(fmt.read(line, 1, 0)) == list(fmt.read(line, 1, 0))


@by_name
def test_a_native_line_is_one_record(fmt: Format) -> None:
    if fmt.is_native:
        assert all(len(fmt.read(line, 1, 0)) == 1 for line in lines_of(fmt))


@by_name
@pytest.mark.parametrize("line", GARBAGE, ids=lambda line: repr(line[:12]))
def test_garbage_is_rejected_or_ignored_never_raised(fmt: Format, line: bytes) -> None:
    for item in fmt.read(line, 7, 99):
        assert isinstance(item, (Reject, Ignored))
        if isinstance(item, Reject):
            assert (item.line, item.offset) == (7, 99)
            assert re.fullmatch(r"[a-z_0-9]+", item.code)
            assert len(item.raw) <= RAW_LIMIT


@by_name
@given(data=st.data())
def test_a_damaged_log_line_never_raises(fmt: Format, data: st.DataObject) -> None:
    line = data.draw(st.sampled_from(lines_of(fmt)))
    start = data.draw(st.integers(0, len(line)))
    damage = data.draw(st.sampled_from([b"", b"null", b'"', b"{}", b"[]", b"-1", b"1e999", b'"\\u0000"', b"\xff"]))
    length = data.draw(st.integers(0, 40))
    for item in fmt.read(line[:start] + damage + line[start + length :], 1, 0):
        assert isinstance(item, (*RECORDS, Reject, Ignored))


@by_name
@given(value=st.sampled_from([None, True, -1, 1.5, "", "x", [], {}, [[]], {"a": 1}, 2**70, "9" * 30]), data=st.data())
def test_a_value_of_the_wrong_type_never_raises(fmt: Format, value: object, data: st.DataObject) -> None:
    """Any node of the JSON tree is replaced: types deep in an envelope are what readers trust too much."""
    root = json.loads(data.draw(st.sampled_from(lines_of(fmt))))
    node, key = [root], 0
    while isinstance(node[key], (dict, list)) and node[key] and data.draw(st.integers(0, 7)):
        node = node[key]
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
    node[key] = value
    line = json.dumps(root).encode()
    for item in fmt.read(line, 1, 0):
        assert isinstance(item, (*RECORDS, Reject, Ignored))


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'litellm'"):
        get("litelm")


def test_nothing_fits_names_the_file_the_keys_and_the_formats() -> None:
    with pytest.raises(LogReadError) as caught:
        detect([{"id": 1, "x": 2}], file="app.log")
    assert caught.value.file == "app.log"
    assert "id, x" in caught.value.message
    assert all(name in str(caught.value.hint) for name in formats())


def test_no_object_at_all() -> None:
    with pytest.raises(LogReadError, match="no JSON object"):
        detect([], file="app.log")


def test_a_tie_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for fmt in ALL:
        monkeypatch.setattr(type(fmt), "sniff", lambda self, objects: 0.8)
    with pytest.raises(LogReadError, match="equally well"):
        detect([{}], file="app.log")
