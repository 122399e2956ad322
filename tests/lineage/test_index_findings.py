"""What holds a release: from its calls alone, and from recorded looks; the same at the same watermark."""

import json

import pytest
from index_tools import START_US, at, calls, write

from abtest.errors import UsageError
from abtest.lineage.index_checks import index_checks, record_check
from abtest.lineage.index_compare import index_compare
from abtest.lineage.index_drift import index_drift
from abtest.lineage.index_findings import index_findings
from abtest.rollout.decide import decide
from abtest.rollout.rules import FINDING_CODES
from abtest.spec import Experiment
from abtest.store.store import Store

LATE = 2**62


def experiment(**more):
    return Experiment.from_dict({
        "id": "swap", "control": "control", "treatments": ["candidate"],
        "metrics": [{"name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower",
                     "guardrail": {"margin": {"points": 0.5}}}],
        **more,
    })  # fmt: skip


def arms(control="e@1", candidate="e@2", **more):
    """Two arms; `more` goes to the candidate's calls."""
    own = {"index_id": "kb-2", **more}
    return calls(200, version=control, index_id="kb-1") + calls(200, version=candidate, variant="candidate", **own)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s.duckdb") as opened:
        opened.ingested = 0

        def ingest(rows):
            opened.ingested += 1
            return opened.ingest(write(tmp_path / f"{opened.ingested}.ndjson", rows))

        opened.take = ingest
        yield opened


def found(store, spec=None, as_of_us=LATE, max_file=LATE):
    return [(f.code, f.severity) for f in index_findings(store, spec or experiment(), as_of_us, max_file)]


def manifest(version, count=20, index_id="kb-2"):
    return [{"id": f"d{i}", "embedding_model_version": version, "index_id": index_id} for i in range(count)]


# --- from the calls alone ----------------------------------------------------------------------------------------------


def test_a_healthy_parallel_index_says_nothing(store):
    store.take(arms())
    assert found(store) == []


def test_two_arms_with_two_models_on_one_index_hold(store):
    store.take(arms(index_id="kb-1"))
    assert found(store) == [("index_queries_mixed", "error")]


def test_a_mixture_inside_an_arm_holds_and_a_trace_of_it_warns(store):
    store.take([*arms(), *calls(20, version="e@1", variant="candidate", index_id="kb-2", name="old")])
    assert found(store) == [("index_queries_mixed", "error")]


def test_up_to_one_per_cent_is_a_warning(store):
    store.take([*arms(), *calls(2, version="e@1", variant="candidate", index_id="kb-2", name="old")])
    assert found(store) == [("index_queries_mixed", "warning")]


def test_calls_that_say_themselves_that_query_and_index_differ(store):
    told = {"index_embedding_model_version": "e@1"}
    store.take(arms(attributes=told))
    ((code, severity),) = found(store)
    assert (code, severity) == ("index_query_mismatch", "error")
    (finding,) = index_findings(store, experiment(), LATE, LATE)
    assert finding.message.startswith(
        "candidate: 200 of 200 calls embedded their query with 'e@2' for index kb-2 of 'e@1'"
    )
    assert "since 2 Nov 2026, 00:00 UTC" in finding.message


def test_attributes_that_agree_say_nothing(store):
    store.take(arms(attributes={"index_embedding_model_version": "e@2", "other": 1}))
    assert found(store) == []


def test_other_experiments_and_populations_do_not_count(store):
    store.take([*arms(), *calls(50, version="e@9", index_id="kb-2", experiment="other", name="o")])
    assert found(store) == []
    elsewhere = [
        {**r, "surface": "search"} for r in calls(50, version="e@9", index_id="kb-2", variant="candidate", name="s")
    ]
    store.take(elsewhere)
    assert found(store) == [("index_queries_mixed", "error")]
    assert found(store, experiment(population={"where": "surface = 'support'"})) == []


def test_assigned_units_count_too(store):
    free = [{k: v for k, v in r.items() if k not in ("experiment_id", "variant")} for r in arms(index_id="kb-1")]
    given = [
        {"type": "assignment", "experiment_id": "swap", "unit_id": f"u-{arm}-{i}", "variant": arm, "ts": at(0)}
        for arm in ("control", "candidate") for i in range(200)
    ]  # fmt: skip
    store.take(free)
    assert found(store) == []
    store.take(given)
    assert found(store) == [("index_queries_mixed", "error")]


def test_the_same_watermark_gives_the_same_findings(store):
    store.take(arms())
    before = (START_US + 24 * 3_600_000_000, store.last_file())
    first = index_findings(store, experiment(), *before)
    store.take(calls(100, version="e@1", variant="candidate", index_id="kb-2", name="later"))
    assert index_findings(store, experiment(), *before) == first == []
    assert index_findings(store, experiment(), LATE, before[1]) == []
    assert found(store) == [("index_queries_mixed", "error")]


# --- recorded looks ----------------------------------------------------------------------------------------------------


def test_a_recorded_mixture_holds_who_uses_the_index(store):
    store.take(arms())
    file = store.last_file()
    look = index_drift([*manifest("e@2"), *[{**r, "id": f"x{r['id']}"} for r in manifest("e@1")]], store=store)
    check = record_check(store, look)
    assert (check.index_id, check.exit_code, check.file_id) == ("kb-2", 30, file + 1)
    assert found(store) == [("index_mixed", "error")]
    assert found(store, max_file=file) == []  # a decision from before replays without it
    assert found(store, as_of_us=START_US) == []
    other = experiment(id="elsewhere")
    assert found(store, other) == []  # it has no calls with this index


def test_a_newer_healthy_look_lets_go(store):
    store.take(arms())
    mixed = [*manifest("e@2"), *manifest("e@1")]
    record_check(store, index_drift(mixed, store=store))
    assert found(store) == [("index_mixed", "error")]
    record_check(store, index_drift(manifest("e@2"), store=store))
    assert found(store) == []
    assert len(index_checks(store, "swap")) == 1
    assert store.connection.execute("select count(*) from index_check").fetchone() == (2,)


def test_calls_of_a_version_that_a_look_did_not_find(store):
    store.take(arms())
    record_check(store, index_drift(manifest("e@2"), store=store))
    store.take(
        [{**r, "ts": at(60)} for r in calls(40, version="e@3", variant="candidate", index_id="kb-2", name="new")]
    )
    assert ("index_query_mismatch", "error") in found(store)
    message = next(
        f.message for f in index_findings(store, experiment(), LATE, LATE) if f.code == "index_query_mismatch"
    )
    assert "40 of 240 queries to index kb-2 were embedded with 'e@3'" in message


def test_a_recorded_comparison_holds_its_experiment(store):
    store.take(arms())
    golden = [{"query_id": f"q{i}", "relevant": [f"d{i}"]} for i in range(60)]
    old = [{"query_id": f"q{i}", "ids": [f"d{i}"]} for i in range(60)]
    bad = index_compare(golden, {"kb-1": old}, {"kb-2": old[:20]})
    with pytest.raises(UsageError, match="whose release"):
        record_check(store, bad)
    record_check(store, bad, experiment="swap")
    assert found(store) == [("index_worse", "error")]
    assert found(store, experiment(id="elsewhere")) == []
    record_check(store, index_compare(golden, {"kb-1": old}, {"kb-2": old}, margin=0.2), experiment="swap")
    assert found(store) == []


def test_an_error_holds_the_release(store):
    store.take([{**r, "refused": False} for r in arms(index_id="kb-1")])
    findings = index_findings(store, experiment(), LATE, LATE)
    decision = decide(store, experiment(), findings=findings, dry_run=True)
    assert (decision.decision, decision.exit_code, decision.reason) == ("hold", 30, "index_queries_mixed")
    assert decide(store, experiment(), dry_run=True).reason != "index_queries_mixed"


def test_recording_disturbs_no_other_load(store, tmp_path):
    rows = [{**r, "refused": False} for r in arms()]
    store.take(rows)
    before = decide(store, experiment())
    record_check(store, index_drift(manifest("e@2"), store=store))
    assert decide(store, experiment()).decision_id == before.decision_id
    again = store.ingest(tmp_path / "1.ndjson")
    assert (again.inserted, again.skipped_files) == (0, 1)
    more = write(tmp_path / "1.ndjson", [*rows, *calls(5, version="e@1", index_id="kb-1", name="grown")])
    assert store.ingest(more).inserted == 5
    files = store.connection.execute("select file_id, source, inserted from file_ledger order by file_id").fetchall()
    assert [s for _, s, _ in files] == ["native", "index_check", "native"]


def test_a_look_is_kept_without_its_long_series(store):
    store.take(arms())
    record_check(store, index_drift(manifest("e@2"), store=store))
    ((body,),) = store.connection.execute("select body from index_check").fetchall()
    assert "hours" not in body
    assert json.loads(body)["schema"] == "abtest.index_drift/1"


def test_codes_are_of_the_closed_list():
    from pathlib import Path

    import abtest.lineage as package

    text = "".join(p.read_text(encoding="utf-8") for p in Path(package.__file__).parent.glob("index_*.py"))
    mine = {c for c in FINDING_CODES if c.startswith(("index_", "embedding_", "query_drift"))}
    assert {c for c in mine if f'"{c}"' in text} == mine
