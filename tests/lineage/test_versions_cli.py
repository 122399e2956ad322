"""`abtest versions` as somebody on call types it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from lineage_logs import BEGIN, HOUR, V12, V13, add, steady

from abtest.lineage.manifest import FIELDS
from abtest.store.store import Store
from tests.cli.runner import call, spawn


@pytest.fixture
def db(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path / "s.duckdb"
    with Store(path) as store:
        add(store, steady(V12, BEGIN, BEGIN + 2 * HOUR, 400, rng, surface="support"))
        add(store, steady(V13, BEGIN + 2 * HOUR, BEGIN + 3 * HOUR, 200, rng, surface="support"))
        add(store, steady({"model": "gpt-4o-mini"}, BEGIN, BEGIN + 3 * HOUR, 30, rng))
    return path


def test_one_command_in_a_fresh_process_answers_for_any_minute(db: Path):
    then = spawn("versions", "--db", db, "--at", "2026-11-02T01:30:00Z", "--last", "30m", "--json")
    assert then.code == 0
    data = then.json
    assert set(data) == {"schema", "as_of", "since", "surfaces", "changes", "findings", "notes"}
    assert data["schema"] == "abtest.versions/1"
    assert data["as_of"] == "2026-11-02T01:30:00Z"
    (support, bare) = data["surfaces"]
    assert support["manifest"]["prompt_version"] == "v12"
    assert set(support["manifest"]) == set(FIELDS)
    assert set(support) >= {"surface", "share", "first_seen", "last_seen", "interactions", "registered", "manifest_id"}
    assert (support["share"], support["registered"], bare["surface"]) == (1.0, False, None)
    now = spawn("versions", "--db", db)
    assert now.code == 0
    assert "answer v13" in now.out
    assert "v12" in now.out.split("what changed:")[1]


def test_surface_window_and_exit_codes(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert (
        len(call(capsys, "versions", "--db", db, "--surface", "support", "--last", "3h", "--json").json["surfaces"])
        == 2
    )
    nothing = call(capsys, "versions", "--db", db, "--at", "2026-12-01T00:00:00Z", "--json")
    assert (nothing.code, nothing.json["surfaces"]) == (40, [])
    missing = call(capsys, "versions", "--db", tmp_path / "no.duckdb", "--json")
    assert (missing.code, missing.json["code"]) == (40, "no_data")
    assert not (tmp_path / "no.duckdb").exists()
    for words in (["--last", "soon"], ["--at", "then"], ["--diff", "v12", "v99"]):
        bad = call(capsys, "versions", "--db", db, *words, "--json")
        assert (bad.code, bad.json["schema"]) == (2, "abtest.error/1")


def test_registering_labelling_rolling_back_retiring(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import hashlib

    def write(version: str, text: str) -> Path:
        path = tmp_path / f"{version}.toml"
        path.write_text(
            f'prompt_name = "answer"\nprompt_version = "{version}"\nprompt_text = "{text}"\nmodel = "gpt-4o"\n'
        )
        return path

    first = call(
        capsys,
        "versions",
        "register",
        write("v12", "strictly valid JSON"),
        write("v13", "parseable JSON"),
        "--db",
        db,
        "--json",
    )
    assert (first.code, first.json["schema"]) == (0, "abtest.versions_register/1")
    assert first.json["manifests"][0]["manifest"]["prompt_sha256"] == hashlib.sha256(b"strictly valid JSON").hexdigest()
    refused = call(capsys, "versions", "register", write("v13", "any JSON"), "--db", db)
    assert refused.code == 2
    assert hashlib.sha256(b"any JSON").hexdigest() in refused.err
    assert first.json["manifests"][1]["manifest"]["prompt_sha256"] in refused.err
    for version in ("v12", "v13", "v12"):
        moved = call(capsys, "versions", "label", "production", version, "--db", db, "--json")
        assert moved.json["label"] == "production"
    assert moved.json["before"] == first.json["manifests"][1]["manifest_id"]
    said = call(capsys, "versions", "label", "staging", "v13", "--db", db)
    assert "staging is on answer v13" in said.out
    assert call(capsys, "versions", "retire", "v12", "--db", db).code == 2  # it carries a label
    call(capsys, "versions", "label", "production", "v13", "--db", db)
    assert call(capsys, "versions", "retire", "v12", "--db", db, "--json").json["manifest"]["prompt_version"] == "v12"
    difference = call(capsys, "versions", "--diff", first.json["manifests"][0]["short_id"], "production", "--db", db)
    assert "-strictly valid JSON" in difference.out
    assert "+parseable JSON" in difference.out
    assert call(capsys, "verify", "--db", db).code == 0
    with Store(db) as store:
        actions = [
            json.loads(b)["action"]
            for (b,) in store.connection.execute("select body from ledger order by seq").fetchall()
        ]
    assert actions == ["register", "register", "label", "label", "label", "label", "label", "retire"]


def test_a_fresh_store_takes_manifests_before_any_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "m.json"
    path.write_text('{"model": "gpt-4o"}')
    assert call(capsys, "versions", "register", path, "--db", tmp_path / "new.duckdb").code == 0
    assert call(capsys, "versions", "--db", tmp_path / "new.duckdb").code == 40


def test_a_store_that_cannot_be_written_is_read(
    db: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    before = db.read_bytes()
    monkeypatch.setattr(os, "access", lambda _, mode, **__: mode != os.W_OK)
    assert "answer v13" in call(capsys, "versions", "--db", db).out
    assert db.read_bytes() == before


def test_the_timeline_and_its_picture(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    picture = tmp_path / "t.svg"
    done = call(capsys, "versions", "timeline", "--db", db, "--since", "1d", "--out", picture, "--json")
    assert done.code == 0
    kinds = {e["kind"] for e in done.json["events"]}
    assert {"appeared", "reached_half", "stopped"} <= kinds
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    early = call(capsys, "versions", "timeline", "--db", db, "--at", "2026-11-02T01:00:00Z")
    assert "nothing changed" in early.out


def test_a_large_load_counts_its_versions_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from abtest.cli import data
    from abtest.lineage import seen

    log = tmp_path / "log.jsonl"
    log.write_text(
        "".join(f'{{"interaction_id": "i{k}", "ts": "2026-11-20T00:00:00Z", "model": "m"}}\n' for k in range(30))
    )
    monkeypatch.setattr(seen, "WORTH_IT", 10)
    monkeypatch.setattr(data, "LARGE_LOAD", 30)
    assert call(capsys, "ingest", log, "--db", tmp_path / "s.duckdb").code == 0
    with Store(tmp_path / "s.duckdb", read_only=True) as store:
        assert store.connection.execute("select sum(calls) from version_hour").fetchall() == [(30,)]
