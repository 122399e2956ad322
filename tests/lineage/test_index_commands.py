"""`abtest index-drift` and `abtest index-compare` as a user calls them."""

import json

import pytest
from index_tools import calls, embedded, write

from abtest.cli.main import run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ABTEST_DB", raising=False)
    write(tmp_path / "logs.ndjson", calls(60, version="e@1") + calls(60, version="e@1", variant="candidate"))
    return tmp_path


def told(capsys):
    out = capsys.readouterr()
    return json.loads(out.out), out.err


def test_drift_from_files_and_logs(folder, capsys):
    assert run(["ingest", "logs.ndjson"]) == 0
    capsys.readouterr()
    assert run(["index-drift", "--json"]) == 0
    data, _ = told(capsys)
    assert data["schema"] == "abtest.index_drift/1"
    assert data["queries"][0]["calls"] == 120
    write(folder / "kb.ndjson", [{"id": str(i), "embedding_model_version": "e@2"} for i in range(10)])
    assert run(["index-drift", "--index", "kb=kb.ndjson"]) == 30
    assert capsys.readouterr().out.startswith("120 of 120 queries to index kb (100 %) were embedded with 'e@1'")
    assert run(["index-drift", "--index", "other=kb.ndjson"]) == 0  # nobody queries that one


def test_drift_without_anything(folder, capsys):
    assert run(["index-drift", "--json"]) == 40
    assert told(capsys)[0]["code"] == "no_data"
    write(folder / "kb.ndjson", [{"id": "a"}])
    assert run(["index-drift", "--index", "kb.ndjson", "--json"]) == 40
    data, err = told(capsys)
    assert data["status"] == "no_data"
    assert "only the files are compared" in err


def test_drift_by_probes_and_parquet(folder, capsys):
    import polars

    real = embedded()
    polars.DataFrame(real.index(real.half())).write_parquet(folder / "kb.parquet")
    write(folder / "probes.ndjson", real.sample(real.a, range(40)))
    assert run(["index-drift", "--index", "kb.parquet", "--probes", "probes.ndjson", "--json"]) == 30
    data, _ = told(capsys)
    assert [f["code"] for f in data["findings"]] == ["index_mixed", "index_unknown"]
    assert data["samples"][0]["fits"] == 20


def test_recording_holds_the_release(folder, capsys):
    assert run(["ingest", "logs.ndjson"]) == 0
    write(folder / "kb.ndjson", [{"id": str(i), "embedding_model_version": f"e@{1 + i % 2}"} for i in range(10)])
    assert run(["index-drift", "--index", "kb=kb.ndjson", "--record"]) == 30
    assert "recorded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["--index", "a=x", "--index", "a=y"], "--index"),
        (["--index", "=x"], "--index"),
        (["--kernel", "rbf", "--index", "x"], "--kernel"),
        (["--experiment", "swap", "--index", "x"], "--experiment, --index-id"),
        (["--baseline-until", "tomorrow", "--index", "x"], "--baseline-until"),
    ],
)
def test_wrong_calls_of_drift(folder, capsys, options, key):
    assert run(["index-drift", *options, "--json"]) == 2
    assert told(capsys)[0]["key"] == key


def test_compare(folder, capsys):
    write(folder / "golden.ndjson", [{"query_id": str(i), "relevant": [f"d{i}"]} for i in range(200)])
    write(folder / "kb-1.ndjson", [{"query_id": str(i), "ids": [f"d{i}"]} for i in range(200)])
    write(folder / "kb-2.ndjson", [{"query_id": str(i), "ids": ["x"]} for i in range(200)])
    asked = ["index-compare", "--golden", "golden.ndjson", "--old", "kb-1.ndjson"]
    assert run([*asked, "--new", "kb-2.ndjson"]) == 20
    assert capsys.readouterr().out.startswith("HALT kb-2: recall@10 -1.000")
    assert run([*asked, "--new", "again=kb-1.ndjson", "--json"]) == 10
    assert run([*asked, "--new", "again=kb-1.ndjson", "--margin", "0.05", "--new", "kb-2.ndjson", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[0])["decision"] == "hold"
    assert json.loads(lines[1])["best"] == "again"
    assert run([*asked, "--new", "kb-1.ndjson"]) == 2  # one name for two runs
    assert run([*asked, "--new", "nowhere.ndjson"]) == 40
    capsys.readouterr()


def test_compare_is_recorded_for_an_experiment(folder, capsys):
    assert run(["ingest", "logs.ndjson"]) == 0
    write(folder / "golden.txt", []).write_text("q1 0 d1 1\n")
    write(folder / "old.txt", []).write_text("q1 Q0 d1 1 2.5 t\n")
    asked = ["index-compare", "--golden", "golden.txt", "--old", "old=old.txt", "--new", "new=old.txt", "--record"]
    capsys.readouterr()
    assert run([*asked, "--json"]) == 2
    assert told(capsys)[0]["key"] == "--experiment"
    assert run([*asked, "--experiment", "swap"]) == 10
    assert "recorded" in capsys.readouterr().out
