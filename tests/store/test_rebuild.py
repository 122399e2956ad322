"""`abtest rebuild` makes anew what is derived from the logs, also after it was emptied by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from governance_tools import Writer, call, litellm, score

from abtest.analysis.analyze import analyze
from abtest.spec import Experiment
from abtest.store import state
from abtest.store.store import Store
from tests.cli.runner import call as run

SPEC = """
id = "e"
control = "x"
treatments = ["y"]
[[metrics]]
name = "cost"
kind = "mean"
value = "cost_usd"
per = "request"
better = "lower"
[[metrics]]
name = "helpful"
kind = "mean"
score = "helpful"
bounds = [0, 1]
better = "higher"
"""
DERIVED = ("twin", "merged_interaction", "twin_conflict", "score_target", "ambiguous_score", "repeated_request")


def routed(name: str, at: float, group: str, trace: str) -> dict[str, Any]:
    """Return a row of LiteLLM's Router in a trace of its own."""
    asked = [{"role": "user", "content": "hi"}]
    return litellm(name, f"resp-{name}", at, trace_id=trace, model_group=group, messages=asked, end_user=f"u-{trace}")


def filled(path: Path, folder: Path) -> Path:
    """Make a store with calls logged twice, mirrored calls, retries, and scores that are found, ambiguous and waiting."""
    write = Writer(folder)
    who = [{"unit_id": f"u{k}", "experiment_id": "e", "variant": "xy"[k % 2]} for k in range(60)]
    own = [
        call(f"s{k}", k, provider_response_id=f"r{k}", request_id=f"q{k // 2 * 2}", **who[k // 2 * 2])
        for k in range(60)
    ]
    trace = "0f7c9d80-23c2-4b4d-93a5-1d4d5d4ba28c"
    loads = [
        own,
        [litellm(f"g{k}", f"r{k}", k + 1) for k in range(60)],
        [routed("leg", 500.01, "mirror", trace)],
        [score("seen", 900, trace_id=trace)],
        [routed("primary", 500, "prod", trace)],
        [call("c1", 600, trace_id="t"), call("c2", 610, trace_id="t"), score("two", 900, trace_id="t"), score("none", 900, trace_id="z")],
        [score(f"f{k}", 900, interaction_id=f"{'sg'[k % 2]}{k}", value=k // 4 % 2) for k in range(60)],
        [call("other-1", 700, provider_response_id="rr", variant="x", experiment_id="e")],
        [litellm("other-2", "rr", 700, request_tags=["exp:e", "variant:y"])],
    ]  # fmt: skip
    with Store(path) as store:
        for records in loads:
            assert store.ingest(write(*records)).inserted == len(records)
    return path


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the derived tables say now, without since when."""
    found = {}
    for table in DERIVED:
        columns = [row[0] for row in store.connection.execute(f"DESCRIBE {table}").fetchall()]
        kept = ", ".join(c for c in columns if c not in ("file_id", "until_file"))
        now = "WHERE until_file = 4611686018427387904" if "until_file" in columns else ""
        found[table] = store.connection.execute(f"SELECT {kept} FROM {table} {now} ORDER BY ALL").fetchall()
    return found


def test_emptied_tables_are_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = filled(tmp_path / "s.duckdb", tmp_path)
    (tmp_path / "e.toml").write_text(SPEC)
    experiment = Experiment.from_toml(tmp_path / "e.toml")
    with Store(path) as store:
        before, result = contents(store), analyze(store, experiment).to_dict()
        assert {name for name, found in before.items() if not found} == set()
        for table in (*DERIVED, "scan_state", "scan_point"):
            store.connection.execute(f"DELETE FROM {table}")
    done = run(capsys, "rebuild", "--db", path, "--json")
    assert done.code == 0
    answer = done.json
    assert (answer["twins"], answer["shadow_legs"], answer["repeated_requests"]) == (
        60,
        1,
        31,
    )  # 30, and the mirrored one
    with Store(path) as store:
        assert contents(store) == before
        assert analyze(store, experiment).to_dict() == result
        # What was found anew is known since the newest load: an earlier state is not brought back.
        last = store.last_file()
        assert store.connection.execute("SELECT DISTINCT file_id FROM twin").fetchall() == [(last,)]


def test_rebuild_changes_nothing_where_everything_is_as_it_should_be(tmp_path: Path) -> None:
    with Store(filled(tmp_path / "s.duckdb", tmp_path)) as store:
        before = {t: store.connection.execute(f"SELECT * FROM {t} ORDER BY ALL").fetchall() for t in DERIVED}
        done = state.rebuild(store)
        assert (done["twins"], done["shadow_legs"], done["resolved"]) == (0, 0, 0)
        assert {t: store.connection.execute(f"SELECT * FROM {t} ORDER BY ALL").fetchall() for t in DERIVED} == before
