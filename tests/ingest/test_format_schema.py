"""Answers against a JSON Schema: what keeps the format, what does not, and what cannot be told within bounds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from abtest.cli.main import run
from abtest.errors import SpecError
from abtest.ingest.format_schema import LARGEST_ANSWER, FormatChecks, FormatRule, FormatSchema, format_checks
from abtest.records import Interaction
from abtest.spec import Experiment
from abtest.store.store import Store

ANSWER: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "answer": {"type": "string", "minLength": 1},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "sources": {"type": "array", "items": {"$ref": "#/$defs/source"}, "uniqueItems": True},
    },
    "required": ["answer"],
    "additionalProperties": False,
    "$defs": {"source": {"type": "string", "pattern": "^https?://"}},
}


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"answer": "yes"}', True),
        (' {"answer": "yes", "confidence": 1e-1, "sources": ["https://a", "http://b"]}\n', True),
        ("{}", False),
        ('{"answer": ""}', False),
        ('{"answer": "yes", "more": 1}', False),
        ('{"answer": "yes", "sources": ["ftp://a"]}', False),
        ('{"answer": "yes", "sources": ["http://a", "http://a"]}', False),
        ('{"answer": "yes"', False),
        ('{"answer": "yes",}', False),
        ('```json\n{"answer": "yes"}\n```', False),
        ('Sure! {"answer": "yes"}', False),
        ("{'answer': 'yes'}", False),
        ('{"answer": "yes", "confidence": NaN}', False),
        ("", False),
        ("I cannot help with that.", False),
        ("[" * 100_000, None),
        ('{"answer": "' + "x" * LARGEST_ANSWER + '"}', None),
        ('{"answer": "y", "confidence": 1' + "0" * 5000 + "}", False),
    ],
)
def test_answers(text: str, valid: bool | None):
    assert FormatSchema(ANSWER).check(text) is valid


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ([], "object"),
        ({"type": "objekt"}, "objekt"),
        ({"$ref": "https://example.com/s.json"}, "outside"),
        ({"$ref": "other.json"}, "outside"),
        ({"items": [{"properties": {"a": {"$ref": "file:///etc/passwd"}}}]}, "outside"),
        ({"patternProperties": {"a": {}}}, "patternProperties"),
        ({"pattern": "(?=a)b"}, "look-around"),
        ({"pattern": "("}, "cannot be used"),
        ({"required": "a"}, "is no JSON Schema"),
    ],
)
def test_schemas_that_cannot_be_used(schema: Any, words: str):
    with pytest.raises(SpecError, match=words):
        FormatSchema(schema)


def test_names_are_no_keywords():
    schema = FormatSchema({"properties": {"patternProperties": {"type": "string"}, "$ref": {"enum": [{"pattern": 1}]}}})
    assert schema.check('{"patternProperties": "x"}') is True
    assert schema.check('{"patternProperties": 1}') is False


def test_files_that_cannot_be_read(tmp_path: Path):
    for name, data in (
        ("a.json", b"{"),
        ("b.json", b"\xff"),
        ("c.json", b"[" * 50_000),
        ("d.json", b" " * (1 << 20) + b"{}"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SpecError):
            FormatSchema.from_file(tmp_path / name)
    with pytest.raises(SpecError, match="cannot be read"):
        FormatSchema.from_file(tmp_path / "missing.json")


def test_hostile_schemas_and_answers_end_soon():
    doubling: dict[str, Any] = {f"a{k}": {"anyOf": [{"$ref": f"#/$defs/a{k + 1}"}] * 2} for k in range(40)}
    doubling["a40"] = {"type": "string"}
    start = time.perf_counter()
    assert FormatSchema({"$ref": "#/$defs/a0", "$defs": doubling}).check("1") is None
    assert FormatSchema({"$ref": "#"}).check("1") is None
    assert FormatSchema({"$ref": "#/$defs/missing"}).check("1") is None
    assert FormatSchema({"type": "string", "pattern": "(a+)+$"}).check(json.dumps("a" * 50_000 + "b")) is False
    many = json.dumps([{"n": k} for k in range(30_000)])
    assert FormatSchema({"uniqueItems": True}).check(many) is True
    assert FormatSchema({"items": {"type": "object"}}).check(many) is None  # more steps than any honest answer takes
    assert FormatSchema({"multipleOf": 0.01}).check("1e308") in (True, False, None)
    assert time.perf_counter() - start < 5.0


def call(**more: Any) -> Interaction:
    return Interaction.model_validate_json(
        json.dumps({"interaction_id": "i", "ts": "2026-11-20T00:00:00Z", "model": "m", "surface": "support", **more})
    )


def test_only_what_the_log_does_not_say_is_filled():
    checks = FormatChecks([FormatRule(FormatSchema(ANSWER), "support"), FormatRule(FormatSchema({"type": "array"}))])
    good, bad = '{"answer": "yes"}', "no"

    def filled(**more: Any) -> bool | None:
        record = checks(call(**more))
        assert isinstance(record, Interaction)
        return record.format_ok

    assert filled(response_text=good) is True
    assert filled(response_text=bad) is False
    assert filled(response_text=bad, format_ok=True) is True
    assert filled(response_text=good, format_ok=False) is False
    assert filled() is None
    assert filled(response_text="", is_error=True) is None
    assert filled(response_text=bad, operation="embeddings") is None
    assert filled(response_text="[]", surface="search") is True
    assert filled(response_text=good, surface="search") is False


@pytest.mark.parametrize("keep", [[], ["--keep-text"], ["--redact"]])
def test_ingest_fills_it_whatever_happens_to_the_text(tmp_path: Path, keep: list[str]):
    rows = [
        {"response_text": '{"answer": "yes"}'}, {"response_text": "```{}```"}, {"response_text": "x", "format_ok": True},
        {"prompt_text": "p"}, {"response_text": '{"answer": "' + "y" * LARGEST_ANSWER + '"}'},
    ]  # fmt: skip
    base = {"ts": "2026-11-20T00:00:00Z", "model": "m"}
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"interaction_id": f"i{k}", **base, **r}) + "\n" for k, r in enumerate(rows)))
    (tmp_path / "answer.json").write_text(json.dumps(ANSWER))
    db = tmp_path / "s.duckdb"
    assert (
        run(["ingest", str(log), "--db", str(db), "--format-schema", str(tmp_path / "answer.json"), "--json", *keep])
        == 0
    )
    with Store(db) as store:
        found = store.connection.execute("select format_ok from interaction order by interaction_id").fetchall()
        assert [v for (v,) in found] == [True, False, True, None, None]
        texts = store.connection.execute("select count(*) from interaction_text").fetchall()
        assert texts == [(5 if keep == ["--keep-text"] else 0,)]


def test_rules_of_the_command_line(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text("{}")
    checks = format_checks([str(path), f"support={path}"])
    assert checks is not None
    assert [r.surface for r in checks.rules] == ["support", None]
    assert format_checks([]) is None
    with pytest.raises(SpecError):
        format_checks(["support=missing.json"])


def test_the_spec_names_it_and_it_decides_nothing(tmp_path: Path):
    text = """
id = "x"
control = "a"
treatments = ["b"]
[[metrics]]
name = "m"
kind = "proportion"
event = "NOT format_ok"
better = "lower"
"""
    plain, named = tmp_path / "plain.toml", tmp_path / "named.toml"
    plain.write_text(text)
    named.write_text(text + '[format]\nschema = "answer.json"\nsurface = "support"\n')
    (tmp_path / "answer.json").write_text(json.dumps(ANSWER))
    one, two = Experiment.from_toml(plain), Experiment.from_toml(named)
    assert two.format is not None
    checks = two.format.checks(two.folder)
    assert checks.rules[0].schema.check("{}") is False
    assert one.policy_sha256() == two.policy_sha256()
    assert Experiment.model_validate(two.model_dump(mode="json")).format == two.format
    (tmp_path / "answer.json").unlink()
    with pytest.raises(SpecError):
        two.format.checks(two.folder)
