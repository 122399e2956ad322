"""Text is dropped and unit ids are hashed before anything is written; a store never holds both kinds of ids."""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from governance_tools import Writer, assignment, call, empty, litellm, rows, score
from hypothesis import given
from hypothesis import strategies as st

from abtest.errors import UsageError
from abtest.ingest.base import RAW_LIMIT
from abtest.ingest.validate import from_fields
from abtest.records import Interaction
from abtest.store.privacy import KEY_VARIABLE, LONG, OUTLINE, Privacy, privacy
from abtest.store.store import Store
from tests.cli.runner import call as run

KEY = "0123456789abcdef-key"
SECRET = "tell nobody that the cat is 7"


def hashed(value: str, key: str = KEY) -> str:
    return hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()


def raw_bytes(db: Path) -> bytes:
    return db.read_bytes() + b"".join(p.read_bytes() for p in db.parent.glob(f"{db.name}.wal*"))


# -- redact ------------------------------------------------------------------------------------------------------------


def test_redact_drops_text_and_keeps_hashes_and_lengths(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    long = SECRET * 20
    lines = [
        call(
            "i1",
            prompt_text=SECRET,
            response_text="four",
            attributes={"tier": "gold", "note": long, "deep": {"a": [long]}},
        ),
        call("i2", prompt_text=SECRET, prompt_sha256="given", response_text="four", response_chars=99),
        call("i3"),
        score("s1", interaction_id="i1", explanation=SECRET),
    ]
    write.load(con, *lines, transform=Privacy(redact=True), keep_text=True)
    sha = hashlib.sha256(SECRET.encode()).hexdigest()
    assert rows(con, "SELECT interaction_id, prompt_sha256, response_chars FROM interaction ORDER BY 1") == [
        ("i1", None, 4), ("i2", "given", 99), ("i3", None, None),
    ]  # fmt: skip
    assert rows(con, "SELECT count(*) FROM interaction_text") == [(0,)]
    assert rows(con, "SELECT explanation, value FROM score") == [(None, 1.0)]
    attributes = json.loads(rows(con, "SELECT attributes FROM interaction WHERE interaction_id = 'i1'")[0][0])
    assert attributes == {
        "tier": "gold", "note": f"[{len(long)} characters]", "deep": "[591 bytes of JSON]", "prompt_text_sha256": sha,
    }  # fmt: skip
    assert len(long) > LONG


def test_redact_leaves_no_text_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db, write = tmp_path / "s.duckdb", Writer(tmp_path)
    bad = json.dumps({"interaction_id": "i9", "ts": "?", "prompt_text": SECRET, "tokens": 5}).encode()
    lines = [
        call("i1", prompt_text=SECRET, response_text=SECRET), bad, f'{{"broken": "{SECRET}'.encode(),
        call("i1", prompt_text=SECRET, latency_ms=5), {"type": SECRET}, call("i2", unit_idd=SECRET),
    ]  # fmt: skip
    path = write(*lines)
    plain = tmp_path / "plain.duckdb"
    assert run(capsys, "ingest", path, "--db", plain).code == 0
    assert SECRET.encode() in raw_bytes(plain)
    result = run(capsys, "ingest", path, "--db", db, "--redact", "--json").json
    assert (result["inserted"], result["quarantined"], result["conflicts"]) == (1, 4, 1)
    assert SECRET.encode() not in raw_bytes(db)
    with Store(db) as store:
        kept = {reason: bytes(raw) for reason, raw in rows(store.connection, "SELECT reason, raw FROM quarantine")}
    assert json.loads(kept["json"]) == {
        "abtest.outline": True, "bytes": len(lines[2]), "sha256": hashlib.sha256(lines[2]).hexdigest(),
    }  # fmt: skip
    assert b"5" in kept["conflict"]
    shown = run(capsys, "quarantine", "list", "--db", db).out
    assert SECRET not in shown


def test_redact_and_keep_text_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Writer(tmp_path)(call())
    result = run(capsys, "ingest", path, "--db", tmp_path / "s.duckdb", "--redact", "--keep-text")
    assert (result.code, "exclude each other" in result.err) == (2, True)


@given(st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=20
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_the_outline_of_anything_is_small_json_without_its_texts(line: bytes) -> None:
    kept = Privacy(redact=True).raw(line)
    assert kept.startswith(OUTLINE)
    assert len(kept) <= RAW_LIMIT
    assert json.loads(kept)["bytes"] == len(line)


def test_the_outline_of_a_huge_line_fits(tmp_path: Path) -> None:
    line = json.dumps({f"key-{k}": "x" for k in range(5000)}).encode()
    assert "record" not in json.loads(Privacy(redact=True).raw(line))
    deep = b'{"a":' * 150 + b"1" + b"}" * 150
    assert b"[deeper]" in Privacy(redact=True).raw(deep)
    shown = json.loads(
        Privacy(redact=True).raw(json.dumps({"user": "bob", "n": 41, "ok": True, "x": None, "l": ["ab"]}).encode())
    )
    assert shown["record"] == {
        "user": "[3 characters]", "n": "[number]", "ok": True, "x": None, "l": ["[2 characters]"]
    }  # fmt: skip


# -- hashed units ------------------------------------------------------------------------------------------------------


def test_unit_ids_are_hashed_alike_everywhere_and_nothing_else_changes(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    made = Privacy(key=KEY.encode())
    attributes = {"user": "user-1", "list": ["user-1", "user-12"], "n": 3, "nested": {"id": "user-1"}}
    write.load(
        con, call("i1", unit_id="user-1", session_id="session-1", attributes=attributes), call("i2"), assignment("user-1"),
        score("s1", interaction_id="i1"), transform=made,
    )  # fmt: skip
    assert rows(con, "SELECT unit_id, session_id FROM interaction ORDER BY interaction_id") == [
        (hashed("user-1"), "session-1"), (None, None),
    ]  # fmt: skip
    assert rows(con, "SELECT unit_id, variant FROM assignment") == [(hashed("user-1"), "x")]
    stored = json.loads(rows(con, "SELECT attributes FROM interaction WHERE interaction_id = 'i1'")[0][0])
    assert stored == {
        "user": hashed("user-1"), "list": [hashed("user-1"), "user-12"], "n": 3, "nested": {"id": hashed("user-1")},
    }  # fmt: skip
    # The same log again: duplicates, because the same key gives the same ids.
    again = write.load(con, call("i1", unit_id="user-1", session_id="session-1", attributes=attributes), transform=made)
    assert again.duplicates == 1


def test_sessions_are_hashed_when_asked_for() -> None:
    record = from_fields("interaction", call("i1", unit_id="u", session_id="s-1234", attributes={"sid": "s-1234"}))
    assert isinstance(record, Interaction)
    made = Privacy(key=KEY.encode(), sessions=True)
    found = made(record)
    assert isinstance(found, Interaction)
    assert (found.unit_id, found.session_id) == (hashed("u"), hashed("s-1234"))
    assert found.attributes == {"sid": hashed("s-1234")}
    assert pickle.loads(pickle.dumps(made))(record) == found


def test_no_plain_id_is_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, write = tmp_path / "s.duckdb", Writer(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    path = write(
        call("i1", unit_id="bob@example.com"), call("i1", unit_id="bob@example.com", latency_ms=3), {"unit_id": "bob@example.com"},
        b'{"unit_id": "bob@example.com', assignment("bob@example.com"), call("i3", unit_id="bob@example.com", variant=5),
    )  # fmt: skip
    result = run(capsys, "ingest", path, "--db", db, "--hash-units", "--json").json
    assert (result["inserted"], result["conflicts"], result["quarantined"]) == (2, 1, 3)
    assert b"bob@example.com" not in raw_bytes(db)
    assert hashed("bob@example.com").encode() in raw_bytes(db)


@pytest.mark.parametrize(("key", "words"), [(None, "is not set"), ("", "is not set"), ("short", "is shorter than 16")])
def test_hashing_without_a_good_key_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key: str | None, words: str
) -> None:
    if key is None:
        monkeypatch.delenv(KEY_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(KEY_VARIABLE, key)
    path, db = Writer(tmp_path)(call()), tmp_path / "s.duckdb"
    result = run(capsys, "ingest", path, "--db", db, "--hash-units")
    assert result.code == 2
    assert words in result.err
    assert KEY_VARIABLE in result.err
    assert not db.exists()


def test_plain_and_hashed_ids_never_mix(tmp_path: Path) -> None:
    write = Writer(tmp_path)
    made, other = Privacy(key=KEY.encode()), Privacy(key=b"another-key-of-16")
    con = empty()
    write.load(con, call("i1", unit_id="u1"), transform=made)
    for transform, words in [(None, "hashed, plain"), (Privacy(redact=True), "hashed, plain"), (other, "another ABTEST_UNIT_KEY"),
                             (Privacy(key=KEY.encode(), sessions=True), "--hash-sessions")]:  # fmt: skip
        with pytest.raises(UsageError, match=words):
            write.load(con, call("i2", unit_id="u2"), transform=transform)
    assert rows(con, "SELECT count(*) FROM interaction") == [(1,)]
    write.load(con, call("i2", unit_id="u2"), transform=Privacy(redact=True, key=KEY.encode()))
    plain = empty()
    write.load(plain, call("i1", unit_id="u1"))
    with pytest.raises(UsageError, match="plain unit ids"):
        write.load(plain, call("i2", unit_id="u2"), transform=made)
    # Without any unit there is nothing to mix with.
    bare = empty()
    write.load(bare, call("i1"))
    assert write.load(bare, call("i2", unit_id="u2"), transform=made).inserted == 1


def test_every_format_goes_through(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    line = litellm(
        "g1", "resp-1", messages=[{"role": "user", "content": SECRET}], model_parameters={"user": "bob-4711"}
    )
    assert write.load(con, line, transform=Privacy(redact=True, key=KEY.encode()), keep_text=True).inserted == 1
    everything: list[Any] = rows(con, "SELECT * FROM interaction") + rows(con, "SELECT * FROM interaction_text")
    assert SECRET not in repr(everything)
    assert "bob-4711" not in repr(everything)
    assert hashed("bob-4711") in repr(everything)


def test_options_make_the_transform() -> None:
    assert privacy() is None
    assert privacy(redact=True) == Privacy(redact=True)
    environment = {KEY_VARIABLE: KEY}
    assert privacy(hash_units=True, environment=environment) == Privacy(key=KEY.encode())
    made = privacy(redact=True, hash_units=True, hash_sessions=True, environment=environment)
    assert made == Privacy(redact=True, key=KEY.encode(), sessions=True)
    assert made.detail("type: 'bob' is none of \"x\"") == "type: [...] is none of [...]"
