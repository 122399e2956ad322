"""A decision made again from the logs: the same, whatever came later; or what is different, and whose doing it was."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest

from abtest.errors import UsageError
from abtest.results import Finding
from abtest.rollout.decide import decide, override
from abtest.rollout.replay import SHORTEST, replay, replay_all
from abtest.rollout.shadow import shadow
from abtest.spec import Experiment
from abtest.store import ledger, retention, state
from abtest.store.store import Store
from tests.cli.runner import call
from tests.rollout.release_cases import COST, LOGGED, START, calls, ingest

HELP = {
    "name": "help",
    "kind": "mean",
    "score": "help",
    "bounds": [0, 1],
    "better": "higher",
    "success": {"mde": {"absolute": 0.1}},
}
SPEC = {**LOGGED, "metrics": [*LOGGED["metrics"], COST, HELP]}
LATER = ("as_of_us", "facts", "extra", "history", "next", "watch")
"""Keys of an entry's body that older versions did not write."""


def rows(arm: str, units: int, **more):
    return calls(arm, units, cost_usd=lambda i: 0.01 + (i * 7 % 13) / 1000, refused=lambda i: i % 25 == 0, **more)


def scores(arm: str, units: int, *, first: int = 0, value: float = 0.5):
    return [
        {"type": "score", "score_id": f"s{arm}{i}", "interaction_id": f"{arm}{i}", "name": "help", "value": value, "scorer_id": "people", "scorer_kind": "human", "ts": (START + timedelta(minutes=i)).isoformat()}
        for i in range(first, first + units)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A store of 100 calls an arm, some of them scored."""
    folder = tmp_path_factory.mktemp("logs")
    with Store(folder / "abtest.duckdb") as opened:
        ingest(opened, folder, rows("a", 100), rows("b", 100), scores("a", 60), scores("b", 60, value=0.6))
    return folder / "abtest.duckdb"


@pytest.fixture
def store(logs, tmp_path):
    """A copy of it that the test may change."""
    with Store(shutil.copy(logs, tmp_path)) as opened:
        yield opened


def spec(**changes) -> Experiment:
    return Experiment.from_dict({**SPEC, **changes})


def status(store, ident) -> tuple[str, str]:
    found = replay(store, ident)
    return found.status, found.detail


# -- the same ----------------------------------------------------------------------------------------------------------


def test_a_decision_is_made_again_with_the_same_id(store):
    decision = decide(store, spec())
    again = replay(store, decision.decision_id)
    assert (again.status, again.detail, again.decision_id) == ("same", "", decision.decision_id)
    assert again.replayed == again.recorded
    assert again.recorded["decision_id"] == decision.decision_id
    assert again.summary == decision.summary
    assert repr(again) == f"{decision.decision_id[:16]} same: {decision.summary}"
    assert "evidence_sha256" in again._repr_html_()
    assert set(again.to_dict()) >= {"decision_id", "status", "detail", "recorded", "replayed"}


def test_rows_and_scores_that_come_later_change_no_replay(store, tmp_path):
    first = decide(store, spec())
    until = ledger.entries(store.connection, kind="decision")[-1].body["as_of_us"]
    # Late calls of the same hour, late scores of calls that were there, and calls of tomorrow.
    ingest(store, tmp_path, calls("b", 40, first=100, refused=True), name="late-calls")
    ingest(store, tmp_path, scores("b", 30, first=60, value=0.0), name="late-scores")
    late_calls = [{**row, "ts": START.isoformat()} for row in calls("b", 40, first=200, refused=True)]
    ingest(store, tmp_path, late_calls, name="older-calls")
    again = decide(store, spec(), as_of_us=until)
    assert again.decision_id != first.decision_id  # the late rows do matter
    assert again.metrics != first.metrics
    assert [r.status for r in replay_all(store)] == ["same", "same"]


def test_a_late_score_alone_changes_no_replay(store, tmp_path):
    first = decide(store, spec())
    ingest(store, tmp_path, scores("b", 30, first=60, value=0.0), name="late-scores")
    assert decide(store, spec()).decision_id != first.decision_id
    assert status(store, first.decision_id) == ("same", "")


def test_policy_edits_change_no_replay_of_what_was_decided_before(store):
    first = decide(store, spec())
    edited = decide(
        store, spec(alpha=0.2, metrics=[{**LOGGED["metrics"][0], "guardrail": {"margin": {"points": 0.5}}}])
    )
    assert (first.decision, edited.decision) == ("hold", "promote")
    assert [r.status for r in replay_all(store)] == ["same", "same"]


def test_a_price_book_that_is_gone_changes_no_replay(tmp_path):
    book = tmp_path / "prices.toml"
    book.write_text('[[model]]\nname = "m"\nsince = 2026-01-01\ninput = 2.0\ncached_input = 2.0\noutput = 8.0\n')
    (tmp_path / "e.toml").write_text("""
        id = "e"
        control = "a"
        treatments = ["b"]
        warm_up_units = 30
        [prices]
        file = "prices.toml"
        [[metrics]]
        name = "cost"
        kind = "mean"
        value = "cost"
        better = "lower"
        guardrail = { margin = { relative = 0.2 } }
    """)
    tokens = {"input_tokens": lambda i: 100 + i, "output_tokens": 50}
    with Store(tmp_path / "abtest.duckdb") as opened:
        ingest(opened, tmp_path, calls("a", 60, **tokens), calls("b", 60, **tokens))
        decision = decide(opened, Experiment.from_toml(tmp_path / "e.toml"))
        assert decision.metrics[0].control_value, decision.summary
        book.unlink()
        assert status(opened, decision.decision_id) == ("same", "")


def test_what_the_rules_knew_besides_is_in_the_entry(store, tmp_path):
    """Stale logs, findings from elsewhere, a halt that stands, an override: each decides, each can be made again."""
    stale = decide(store, spec(freshness={"max_age": "1h"}))
    error = Finding("mixed_versions", "error", None, "two prompts run")
    held = decide(store, spec(), findings=[error])
    ingest(store, tmp_path, calls("b", 200, first=100, refused=True), name="harm")
    halted = decide(store, spec())
    latched = decide(store, spec(alpha=0.04), as_of_us=ledger.entries(store.connection)[0].body["as_of_us"])
    override(store, spec(), "hold", reason="looking", actor="kim", expires="2999-01-01T00:00:00Z")
    overridden = decide(store, spec())
    made = [stale, held, halted, latched, overridden]
    assert [d.reason for d in made] == ["stale", "mixed_versions", "harm", "latched", "override"]
    assert [r.recorded["reason"] for r in replay_all(store)] == [d.reason for d in made]
    assert {r.status for r in replay_all(store)} == {"same"}


def test_the_split_that_abtest_wrote_is_in_the_entry(store):
    experiment = spec(allocation=[], ramp=[{"stage": "canary", "share": 0.25}, {"stage": "ab", "share": 0.5}])
    us = int(START.timestamp()) * 1_000_000
    ledger.append(store.connection, "action", "e", 1, {"actuator": "flagd", "status": "done", "detail": "", "original": None,
                  "share": 0.5, "at_us": us + 1_800_000_000, "from_share": 0.25, "from_us": us})  # fmt: skip
    decision = decide(store, experiment)
    assert decision.stage.kind == "ab"
    # A later change of the split is not what this decision knew.
    ledger.append(store.connection, "action", "e", 1, {"actuator": "flagd", "status": "done", "detail": "", "original": None,
                  "share": 0.6, "at_us": us + 2_000_000_000})  # fmt: skip
    assert status(store, decision.decision_id) == ("same", "")


def test_a_replay_writes_nothing_and_believes_no_kept_sums(store, monkeypatch):
    monkeypatch.setattr(state, "WORTH_IT", 1)
    decision = decide(store, spec())
    con = store.connection
    kept = json.loads(con.execute("select body from scan_state").fetchone()[0])
    kept["tables"]["cells"][0]["x0"] = 10**6
    con.execute("update scan_state set body = $b", {"b": json.dumps(kept)})
    con.execute("delete from frozen")

    def everything() -> dict[str, object]:
        names = [n for (n,) in con.execute("select table_name from duckdb_tables() where not temporary").fetchall()]
        return {n: con.execute(f'select count(*), sum(hash(t)) from "{n}" t').fetchall() for n in sorted(names)}

    before = everything()
    assert status(store, decision.decision_id) == ("same", "")
    assert everything() == before


def test_a_replay_needs_no_right_to_write(store, tmp_path):
    decision = decide(store, spec())
    store.close()
    with Store(tmp_path / "abtest.duckdb", read_only=True) as readable:
        assert status(readable, decision.decision_id) == ("same", "")


def test_a_shadow_decision_is_replayed_by_the_same_door(tmp_path):
    def pairs(arm: str, units: int, **more):
        return rows(arm, units, request_id=lambda i: f"r{i}", unit_id=lambda i: f"u{i}", **more)

    experiment = spec(ramp=[{"stage": "shadow"}, *LOGGED["ramp"]])
    with Store(tmp_path / "abtest.duckdb") as opened:
        ingest(opened, tmp_path, pairs("a", 80), pairs("b", 80, exposed=False))
        decision = shadow(opened, experiment)
        ingest(opened, tmp_path, pairs("b", 40, first=80, exposed=False), pairs("a", 40, first=80), name="later")
        assert shadow(opened, experiment).decision_id != decision.decision_id
        assert [r.status for r in replay_all(opened)] == ["same", "same"]
        opened.connection.execute("update interaction set refused = true where interaction_id = 'b1'")
        assert [r.status for r in replay_all(opened)] == ["differs", "differs"]


# -- not the same ------------------------------------------------------------------------------------------------------


def test_logs_that_were_changed_are_found(store):
    decision = decide(store, spec())
    store.connection.execute("update interaction set refused = true where interaction_id = 'b1'")
    found = replay(store, decision.decision_id)
    assert found.status == "differs"
    assert "evidence_sha256" in found.detail
    assert found.recorded["policy_sha256"] == found.replayed["policy_sha256"]


def test_constants_that_were_changed_are_found(store):
    decision = decide(store, spec())
    store.connection.execute("update frozen set value = value * 2 where name = 'variance'")
    found = replay(store, decision.decision_id)
    assert found.status == "differs"
    assert "policy_sha256" in found.detail


def test_an_entry_that_says_something_else_than_its_evidence_is_found(store):
    """Somebody rewrote an entry and all hashes after it: the chain holds, the replay does not."""
    decide(store, spec())
    con = store.connection
    entry = ledger.entries(con)[0]
    body = {**entry.body, "decision": "promote", "reason": "all_safe", "summary": "PROMOTE"}
    con.execute("delete from ledger")
    ledger.append(con, "decision", "e", 1, body, decision_id=entry.decision_id)
    assert ledger.verify(con) == 1
    found = replay(store, str(entry.decision_id))
    assert found.status == "differs"
    assert "recorded promote, now hold" in found.detail


# -- rows that are gone ------------------------------------------------------------------------------------------------


def test_pruned_logs_are_said_to_be_pruned_not_tampered_with(store):
    decision = decide(store, spec())
    retention.prune(store.connection, int(START.timestamp() + 1800) * 1_000_000)
    found = replay(store, decision.decision_id)
    assert found.status == "pruned"
    assert found.detail.startswith("cannot be replayed: logs before 2026-11-02T00:30:00Z were pruned on 20")


def test_a_forgotten_unit_is_said_to_be_forgotten(store):
    decision = decide(store, spec())
    retention.forget(store.connection, "b5")
    found = replay(store, decision.decision_id)
    assert found.status == "pruned"
    assert "a unit was forgotten on 20" in found.detail
    assert "b5" not in found.detail


def test_removing_what_a_decision_did_not_use_leaves_it_replayable(store, tmp_path):
    ingest(store, tmp_path, [{**row, "experiment_id": "x", "interaction_id": f"x{i}", "unit_id": f"x{i}", "ts": "2026-10-01T00:00:00Z"}
                             for i, row in enumerate(calls("a", 5))], name="other")  # fmt: skip
    decision = decide(store, spec())
    assert retention.prune(store.connection, int(START.timestamp()) * 1_000_000 - 1).total > 0
    assert status(store, decision.decision_id) == ("same", "")


def test_removing_rows_before_a_decision_excuses_nothing(store):
    """What was pruned before is not in its evidence: a difference is a difference."""
    retention.prune(store.connection, int(START.timestamp() + 60) * 1_000_000)
    decision = decide(store, spec())
    store.connection.execute("update interaction set refused = true where interaction_id = 'b7'")
    assert status(store, decision.decision_id)[0] == "differs"


# -- older entries -----------------------------------------------------------------------------------------------------


def older(store, **changes) -> str:
    """Write the entry anew as the version before wrote it: no facts, and an id that does not cover the reason."""
    from abtest.spec import canonical_sha256

    con = store.connection
    entry = ledger.entries(con, kind="decision")[-1]
    body = {k: v for k, v in {**entry.body, **changes}.items() if k not in LATER}
    ident = canonical_sha256({
        "experiment": "e", "revision": 1, "evidence": body["evidence_sha256"], "policy": body["policy_sha256"], "decision": body["decision"],
    })  # fmt: skip
    con.execute("delete from ledger where seq = $s", {"s": entry.seq})
    ledger.append(con, "decision", "e", 1, body, decision_id=ident)
    return ident


def test_an_entry_of_the_version_before_is_replayable(store):
    decide(store, spec())
    ident = older(store)
    assert status(store, ident) == ("same", "")
    decide(store, spec(freshness={"max_age": "1h"}))
    assert status(store, older(store)) == ("same", "")


def test_an_older_entry_whose_rules_were_others_says_so(store):
    decide(store, spec())
    ident = older(store, decision="promote", reason="all_safe")
    found = replay(store, ident)
    assert found.status == "unknown"
    assert "an older version decided" in found.detail


@pytest.mark.parametrize(("change", "why"), [
    ({"spec": None}, "by which spec"), ({"spec": {"id": "e", "control": "a"}}, "treatments"), ({"facts": {"phase": 1}}, "not as this version"),
])  # fmt: skip
def test_what_cannot_be_replayed_says_why(store, change, why):
    decide(store, spec())
    con = store.connection
    entry = ledger.entries(con)[0]
    body = {k: v for k, v in {**entry.body, **change}.items() if v is not None}
    con.execute("delete from ledger")
    ledger.append(con, "decision", "e", 1, body, decision_id=entry.decision_id)
    found = replay(store, str(entry.decision_id))
    assert found.status == "unknown"
    assert why in found.detail


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_decision_may_be_named_by_its_first_digits(store):
    decision = decide(store, spec())
    assert replay(store, decision.decision_id[:SHORTEST].upper()).decision_id == decision.decision_id
    for wrong in (decision.decision_id[: SHORTEST - 1], "f" * 64, "not-a-hash", ""):
        with pytest.raises(UsageError):
            replay(store, wrong)


def test_digits_that_fit_two_decisions_are_refused(store):
    decide(store, spec())
    entry = ledger.entries(store.connection)[0]
    twin = str(entry.decision_id)[:12] + "0" * 52
    ledger.append(store.connection, "decision", "e", 1, entry.body, decision_id=twin)
    with pytest.raises(UsageError, match="2 decisions"):
        replay(store, str(entry.decision_id)[:SHORTEST])
    assert replay(store, str(entry.decision_id)).status == "same"


# -- the command -------------------------------------------------------------------------------------------------------


def test_verify_replays_on_the_command_line(store, tmp_path, capsys):
    decision = decide(store, spec())
    store.close()
    db = tmp_path / "abtest.duckdb"
    one = call(capsys, "verify", "--replay", decision.decision_id[:10], "--db", db, "--json")
    assert one.code == 0
    assert (one.json["schema"], one.json["entries"], one.json["ok"]) == ("abtest.verify/1", 1, True)
    (row,) = one.json["replayed"]
    assert (row["decision_id"], row["status"], row["detail"]) == (decision.decision_id, "same", "")
    text = call(capsys, "verify", "--replay-all", "--db", db)
    assert (text.code, decision.decision_id[:16] in text.out, "the same" in text.out) == (0, True, True)
    assert call(capsys, "verify", "--db", db, "--json").json["replayed"] == []
    assert call(capsys, "verify", "--replay", "12345678", "--db", db, "--json").code == 2
    assert call(capsys, "verify", "--replay", "12345678", "--replay-all", "--db", db).code == 2


def test_verify_exits_30_where_a_replay_or_the_chain_is_broken(store, tmp_path, capsys):
    decision = decide(store, spec())
    con, db = store.connection, tmp_path / "abtest.duckdb"
    con.execute("update interaction set refused = true where interaction_id = 'b1'")
    store.close()
    found = call(capsys, "verify", "--replay-all", "--db", db, "--json")
    assert (found.code, found.json["ok"], found.json["replayed"][0]["status"]) == (30, False, "differs")
    assert "NOT the same" in call(capsys, "verify", "--replay", decision.decision_id, "--db", db).out
    with Store(db) as opened:
        opened.connection.execute("update ledger set body = replace(body, 'hold', 'ship')")
    broken = call(capsys, "verify", "--db", db, "--json")
    assert (broken.code, broken.json["code"], broken.json["key"]) == (30, "ledger", "entry 1")


def test_verify_of_pruned_logs_is_no_alarm(store, tmp_path, capsys):
    decide(store, spec())
    retention.prune(store.connection, int(START.timestamp() + 1800) * 1_000_000)
    store.close()
    found = call(capsys, "verify", "--replay-all", "--db", tmp_path / "abtest.duckdb", "--json")
    assert (found.code, found.json["ok"], found.json["replayed"][0]["status"]) == (0, True, "pruned")
