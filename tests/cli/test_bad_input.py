"""Bad input: one line that says what to do, exit 2 or 40, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys

import duckdb
import pytest

from abtest.store.store import Store, schema_version
from tests.cli.runner import call, spawn


def one_line(result, code: int, *words: str) -> None:
    assert result.code == code, (result.code, result.out, result.err)
    assert result.out == ""
    lines = result.err.strip().splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("abtest: ")
    assert "Traceback" not in result.err
    for word in words:
        assert word in lines[0], (word, lines[0])


def test_missing_log_file(capsys, tmp_path):
    db = tmp_path / "s.duckdb"
    one_line(call(capsys, "ingest", tmp_path / "no.jsonl", "--db", db), 40, "no.jsonl")


def test_empty_log_file_is_fine(capsys, tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    result = call(capsys, "ingest", tmp_path / "empty.jsonl", "--db", tmp_path / "s.duckdb", "--json")
    assert (result.code, result.json["records"]) == (0, 0)


def test_a_folder_without_logs(capsys, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    one_line(call(capsys, "ingest", folder, "--db", tmp_path / "s.duckdb"), 40, "logs")


def test_a_binary(capsys, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(bytes(range(256)) * 50)
    result = call(capsys, "ingest", tmp_path / "x.jsonl", "--db", tmp_path / "s.duckdb", "--json")
    assert result.code == 40
    assert result.json.get("inserted", 0) == 0


@pytest.mark.parametrize("argv", [["analyze"], ["decide"]])
def test_spec_is_missing_a_folder_or_a_binary(capsys, tmp_path, argv):
    db = tmp_path / "s.duckdb"
    one_line(call(capsys, *argv, tmp_path / "no.toml", "--db", db), 2, "no.toml", "abtest init")
    one_line(call(capsys, *argv, tmp_path, "--db", db), 2, "folder")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    one_line(call(capsys, *argv, tmp_path / "b.toml", "--db", db), 2, "UTF-8")
    (tmp_path / "e.toml").write_text("")
    one_line(call(capsys, *argv, tmp_path / "e.toml", "--db", db), 2, "missing")
    (tmp_path / "n.toml").write_text("id = ")
    one_line(call(capsys, *argv, tmp_path / "n.toml", "--db", db), 2, "not TOML", "end of document")
    assert not db.exists()


def test_a_typo_in_the_spec(simulated, capsys):
    logs = simulated("healthy", users=500)
    for wrong, right, words in [
        ('evnt = "refused"', 'event = "refused"', ("metrics.refusal_rate.evnt", "did you mean 'event'")),
        ('event = "refusd"', 'event = "refused"', ("metrics.refusal_rate.event", "did you mean 'refused'")),
        ("margin = 0.01", "margin = { points = 0.01 }", ("needs a unit", "{ points = 0.01 }")),
        ("q = 99", "q = 0.99", ("metrics.latency_p99.q", "less than 1")),
        ("treatments = []", 'treatments = ["candidate"]', ("treatments",)),
        ('treatments = ["baseline"]', 'treatments = ["candidate"]', ("control",)),
    ]:
        text = logs.spec.read_text()
        assert right in text
        logs.spec.write_text(text.replace(right, wrong, 1))
        one_line(call(capsys, "decide", logs.spec, "--db", logs.db), 2, "experiment.toml", *words)
        logs.spec.write_text(text)


def test_errors_as_json(capsys, tmp_path):
    result = call(capsys, "decide", tmp_path / "no.toml", "--json")
    assert result.code == 2
    assert result.json["schema"] == "abtest.error/1"
    assert set(result.json) == {"schema", "code", "message", "file", "key", "hint"}
    result = call(capsys, "decide", "--json", "--bogus")
    assert result.json["schema"] == "abtest.error/1"


def test_a_metric_on_a_column_that_no_log_has(simulated, capsys):
    logs = simulated("healthy", users=3000)
    text = logs.spec.read_text().replace('event = "refused"', 'event = "cache_hit"')
    logs.spec.write_text(text)
    result = call(capsys, "decide", logs.spec, "--db", logs.db, "--json")
    assert (result.code, result.json["decision"], result.json["reason"]) == (40, "hold", "no_data")
    assert "refusal_rate" in result.json["summary"]
    metric = next(m for m in result.json["metrics"] if m["metric"] == "refusal_rate")
    assert (metric["status"], metric["verdict"], metric["estimate"], metric["pvalue"]) == (
        "no_data",
        "unknown",
        None,
        None,
    )
    logs.spec.write_text(
        text.replace('value = "latency_ms"', 'value = "reasoning_tokens + NULL"').replace(
            'event = "cache_hit"', 'event = "refused"'
        )
    )
    result = call(capsys, "analyze", logs.spec, "--db", logs.db, "--json")
    quantile = next(m for m in result.json["metrics"] if m["kind"] == "quantile")
    assert quantile["status"] == "no_data"


def test_no_store_yet(capsys, tmp_path, simulated):
    logs = simulated("healthy", users=500)
    for argv in (
        ["status"],
        ["verify"],
        ["decide", logs.spec],
        ["analyze", logs.spec],
        ["report"],
        ["quarantine", "list"],
    ):
        db = tmp_path / "none.duckdb"
        one_line(call(capsys, *argv, "--db", db), 40, "no store", "abtest ingest")
        assert not db.exists()


def test_a_store_that_is_something_else(capsys, tmp_path):
    (tmp_path / "text.duckdb").write_text("hello, I am no database" * 1000)
    one_line(call(capsys, "status", "--db", tmp_path / "text.duckdb"), 40, "not an abtest store")
    one_line(call(capsys, "status", "--db", tmp_path), 40, "folder")
    con = duckdb.connect(str(tmp_path / "other.duckdb"))
    con.execute("create table mine (a integer)")
    con.close()
    one_line(call(capsys, "status", "--db", tmp_path / "other.duckdb"), 40, "not an abtest store")
    assert duckdb.connect(str(tmp_path / "other.duckdb"), read_only=True).execute(
        "select count(*) from duckdb_tables()"
    ).fetchone() == (1,)


def test_a_store_made_by_a_newer_version(capsys, tmp_path):
    db = tmp_path / "new.duckdb"
    with Store(db) as store:
        store.connection.execute("update schema_version set version = $v", {"v": schema_version() + 1})
    one_line(call(capsys, "status", "--db", db), 2, f"schema version {schema_version() + 1}", "newer abtest")


def test_a_store_held_by_another_process(tmp_path, capsys, monkeypatch):
    db = tmp_path / "held.duckdb"
    Store(db).close()
    code = "import sys, duckdb; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        result = spawn("status", "--db", db)
        assert result.code == 40
        assert f"held by process {holder.pid}" in result.err
        assert len(result.err.strip().splitlines()) == 1
        holder.stdin.close()
        holder.wait(10)
        assert spawn("status", "--db", db).code == 40  # free again: nothing was decided yet
    finally:
        if holder.poll() is None:
            holder.kill()
            holder.wait(5)
        holder.stdout.close()


@pytest.mark.parametrize(("content", "words"), [
    ("{ not json", ("flags.json", "JSON")),
    ('{"flags": {"another": {"state": "ENABLED", "variants": {}, "defaultVariant": null}}}', ("support-model",)),
    (None, ("flags.json",)),
])  # fmt: skip
def test_a_flag_file_that_cannot_be_used(simulated, capsys, content, words):
    logs = simulated("refusal-regression")
    if content is None:
        logs.flags.unlink()
    else:
        logs.flags.write_text(content)
    result = call(capsys, "decide", logs.spec, "--db", logs.db)
    # The decision is in the error: nobody has to guess what would have happened.
    one_line(result, 2, "HALT at canary 20 %", *words)
    assert (logs.flags.read_text() if content is not None else None) == content
    with logs.store() as store:
        assert store.engine.rows("select count(*) as n from ledger")[0]["n"] == 0


def test_bad_moments_and_overrides(simulated, capsys):
    logs = simulated("healthy", users=500)
    one_line(
        call(capsys, "analyze", logs.spec, "--db", logs.db, "--as-of", "yesterday"),
        2,
        "yesterday",
        "2026-11-20T12:00:00Z",
    )
    one_line(call(capsys, "analyze", logs.spec, "--db", logs.db, "--as-of", "2026-11-20T12:00:00"), 2, "time zone")
    base = ("override", logs.spec, "--db", logs.db, "--reason", "r", "--actor", "a")
    one_line(call(capsys, *base, "--decision", "hlt", "--expires", "2999-01-01"), 2, "did you mean 'halt'")
    one_line(call(capsys, *base, "--decision", "halt", "--expires", "2001-01-01"), 2, "in the past")


def test_more_than_one_treatment(simulated, capsys):
    logs = simulated("healthy", users=3000)
    text = logs.spec.read_text().replace('treatments = ["candidate"]', 'treatments = ["candidate", "third"]')
    logs.spec.write_text(text.replace("share = 0.5\n", "share = 0.4\n"))
    one_line(call(capsys, "decide", logs.spec, "--db", logs.db), 2, "exactly one treatment", "abtest analyze")
    result = call(capsys, "analyze", logs.spec, "--db", logs.db, "--json")
    assert result.code == 0
    assert {m["treatment"] for m in result.json["metrics"]} == {"candidate", "third"}


def test_a_broken_ledger_is_not_decided_upon(simulated, capsys):
    logs = simulated("refusal-regression")
    call(capsys, "decide", logs.spec, "--db", logs.db)
    with logs.store() as store:
        store.connection.execute("update ledger set body = replace(body, 'halt', 'hold') where seq = 1")
    one_line(call(capsys, "verify", "--db", logs.db), 30, "entry 1")
    result = call(capsys, "decide", logs.spec, "--db", logs.db, "--json")
    assert (result.code, result.json["code"]) == (30, "ledger")


def test_json_has_no_nan(simulated, capsys):
    logs = simulated("no-control", users=1000)
    for command in ("analyze", "decide"):
        out = call(capsys, command, logs.spec, "--db", logs.db, "--json").out
        assert len(out.strip().splitlines()) == 1
        json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
