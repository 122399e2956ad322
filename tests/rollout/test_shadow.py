"""The gate to the canary: decisions, exit codes, the ledger, what may halt and what may only hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))

from shadow_logs import CANDIDATE, CONTROL, LATENCY, REFUSAL, Record, add, call, ingest, score, simple, spec

import abtest as ab
from abtest.cli.main import run
from abtest.report.assemble import build
from abtest.report.context import Context
from abtest.report.html import render as html
from abtest.report.model import Entry
from abtest.report.sections.shadow import SECTION
from abtest.rollout.decide import override
from abtest.rollout.shadow import replay_shadow
from abtest.store import ledger

RAMP: list[dict[str, Any]] = [{"stage": "shadow"}, {"stage": "canary", "share": 0.05}]
JUDGED = {
    "name": "helpful", "kind": "mean", "score": "helpful", "bounds": [0, 1], "better": "higher",
    "guardrail": {"margin": {"absolute": 0.05}},
}  # fmt: skip


def codes(answer: ab.ShadowAnalysis) -> set[str]:
    return {f.code for f in answer.findings}


def decided(store: ab.Store) -> list[ledger.Entry]:
    return ledger.entries(store.connection, kind="decision")


def test_a_harmless_candidate_is_promoted_to_the_canary(tmp_path: Path) -> None:
    with ingest(tmp_path, simple(1, users=300)) as store:
        got = ab.shadow(store, spec(REFUSAL, LATENCY, ramp=RAMP))
    assert (got.decision, got.reason, got.exit_code) == ("promote", "all_safe", 0)
    assert got.summary == "PROMOTE from shadow to canary 5 %: all 2 guardrails are safe"
    assert [m.verdict for m in got.metrics if m.listed] == ["safe", "safe"]
    assert (got.metric("latency").gain or 0) > 5


def test_a_slow_candidate_is_halted_and_the_halt_stands(tmp_path: Path) -> None:
    """Recovery does not resume it: an override or a new revision does; the live stages see it too."""
    slow = simple(2, users=60, effect=0.7, requests=1)
    with ingest(tmp_path, slow) as store:
        experiment = spec(REFUSAL, LATENCY, ramp=RAMP)
        got = ab.shadow(store, experiment)
        assert (got.decision, got.reason, got.exit_code) == ("halt", "harm", 20)
        assert "HALT at shadow: latency" in got.summary
        better = [
            {
                **r,
                "interaction_id": r["interaction_id"] + "b",
                "request_id": r["request_id"] + "b",
                "unit_id": r["unit_id"] + "b",
            }
            for r in simple(3, users=900, requests=1)
        ]
        add(store, tmp_path, better)
        again = ab.shadow(store, experiment)
        assert (again.decision, again.reason) == ("halt", "latched")
        assert (ab.decide(store, experiment).decision, decided(store)[-1].body["reason"]) == ("halt", "latched")
        override(store, experiment, "promote", reason="cold cache in the replay", actor="kim", expires="2999-01-01")
        lifted = ab.shadow(store, experiment)
        assert (lifted.decision, lifted.reason, lifted.exit_code) == ("promote", "override", 0)
        assert "the evidence says" in lifted.summary
        assert ab.shadow(store, experiment.model_copy(update={"revision": 2})).reason != "latched"


def test_no_pairs_is_no_data_and_says_what_is_there(tmp_path: Path) -> None:
    records = simple(4, users=8)
    cases = {
        "no answer of cand that nobody saw": [r for r in records if r["variant"] == CONTROL],
        "none of them by base under the same request_id": [{**r, "request_id": f"{r['request_id']}!"} if r["variant"] == CANDIDATE else r for r in records],
        "was seen by anybody": [{**r, "exposed": False, "repeat": 1} for r in records],
        "all are later turns": [{**r, "turn": 3} for r in records],
        "have no user": [{k: v for k, v in r.items() if k != "unit_id"} for r in records],
    }  # fmt: skip
    for n, (words, rows) in enumerate(cases.items()):
        (tmp_path / str(n)).mkdir()
        with ingest(tmp_path / str(n), rows) as store:
            got = ab.shadow(store, spec(REFUSAL, LATENCY))
        assert (got.decision, got.reason, got.exit_code, got.pairs) == ("hold", "no_data", 40, 0)
        assert words in got.summary
        assert not any(m.verdict in ("safe", "harm") for m in got.metrics)


def test_an_empty_store_is_no_data(tmp_path: Path) -> None:
    with ab.Store(tmp_path / "abtest.duckdb") as store:
        assert ab.shadow(store, spec(REFUSAL)).exit_code == 40


@pytest.mark.parametrize(("users", "promoted"), [(29, False), (30, True)])
def test_below_thirty_units_nothing_is_called_safe(tmp_path: Path, users: int, promoted: bool) -> None:
    """A margin so wide that even 30 identical users are enough; 29 are not."""
    wide = {**LATENCY, "guardrail": {"margin": {"relative": 5.0}}}
    with ingest(tmp_path, simple(5, users=users)) as store:
        got = ab.shadow(store, spec(wide))
    assert (got.decision == "promote") is promoted
    m = got.metric("latency")
    assert (m.status, m.verdict) == (("ok", "safe") if promoted else ("insufficient", "unknown"))
    assert (m.harm_upper is None) is not promoted
    assert m.estimate is not None


def test_the_ledger_has_a_decision_once_and_it_can_be_made_again(tmp_path: Path) -> None:
    records = simple(6, users=60)
    with ingest(tmp_path, records[:300]) as store:
        experiment = spec(REFUSAL, LATENCY, ramp=RAMP)
        first, second = ab.shadow(store, experiment), ab.shadow(store, experiment)
        assert first.decision_id == second.decision_id
        assert len(decided(store)) == 1
        assert first.previous_decision_id is second.previous_decision_id is None
        add(store, tmp_path, records[300:], [score(r["interaction_id"], "helpful", 1.0) for r in records[:40]])
        dry = ab.shadow(store, experiment, dry_run=True)
        assert dry.dry_run
        assert len(decided(store)) == 1
        third = ab.shadow(store, experiment)
        assert third.decision_id not in (first.decision_id, None)
        assert third.previous_decision_id == first.decision_id
        for n, entry in enumerate(decided(store)):
            again = replay_shadow(store, entry, decided(store)[:n])
            assert again["decision_id"] == entry.decision_id
            assert {k: entry.body[k] for k in again if k != "decision_id"} == {
                k: v for k, v in again.items() if k != "decision_id"
            }
        assert ledger.verify(store.connection) == 2


def test_another_policy_is_another_decision_but_no_other_live_policy(tmp_path: Path) -> None:
    with ingest(tmp_path, simple(7, users=60)) as store:
        one, two = (spec(REFUSAL, shadow={"turns": turns}) for turns in ("first", "all"))
        assert one.policy_sha256() == two.policy_sha256()
        a, b = ab.shadow(store, one), ab.shadow(store, two)
        assert a.policy_sha256 != b.policy_sha256
        assert a.decision_id != b.decision_id
        assert not store.frozen("swap", 1)  # nothing of the shadow stage tunes the live ones


def test_a_judge_alone_holds_and_with_people_halts(tmp_path: Path) -> None:
    """Harm on a judge's score: without labels, with labels that disagree, with labels that agree."""
    records = simple(8, users=130, requests=1)
    rng = np.random.default_rng(8)

    def scores(kind: str, gap: float, users: int) -> list[Record]:
        rows = []
        for r in records:
            if int(r["unit_id"][1:]) < users:
                value = 0.7 - (gap if r["variant"] == CANDIDATE else 0.0) + rng.uniform(-0.1, 0.1)
                rows.append(
                    score(
                        r["interaction_id"],
                        "helpful" if kind == "judge" else "people",
                        round(float(value), 4),
                        kind=kind,
                    )
                )
        return rows

    judge = scores("judge", 0.3, 130)
    labels = {"labels": {"helpful": "people"}}
    cases = {
        "alone": ([], "hold", "no person has labelled"), "few": (scores("human", 0.3, 20), "hold", "labelled the answers of 20 units"),
        "disagree": (scores("human", 0.0, 100), "hold", "not shown to be worse"), "agree": (scores("human", 0.3, 100), "halt", ""),
    }  # fmt: skip
    for name, (rows, decision, words) in cases.items():
        (tmp_path / name).mkdir()
        with ingest(tmp_path / name, [*records, *judge, *rows]) as store:
            got = ab.shadow(store, spec(JUDGED, shadow=labels))
        assert got.metric("helpful").verdict == "harm"
        assert got.decision == decision
        found = [f.message for f in got.findings if f.code == "uncalibrated_judge"]
        assert (len(found) == 1 and words in found[0]) if decision == "hold" else not found
        if rows:
            assert got.ppi["helpful"]["control"]["n_labelled"] == {"few": 20}.get(name, 100)


def test_a_margin_below_the_noise_is_refused_before_the_run(tmp_path: Path) -> None:
    """Only control's repeats are there: the plan says that 500 pairs cannot tell 1 % of the latency."""
    rng = np.random.default_rng(9)
    rows = [
        call(f"r{n}", CONTROL, ident=f"r{n}:{k}", unit_id=f"u{n}", repeat=k or None, exposed=k == 0, latency_ms=round(float(500 + rng.normal(0, 100)), 2))
        for n in range(50) for k in range(4)
    ]  # fmt: skip
    tight = {**LATENCY, "guardrail": {"margin": {"absolute": 5.0}}}
    with ingest(tmp_path, rows) as store:
        got = ab.shadow(store, spec(tight, shadow={"pairs": 500}))
        wide = ab.shadow(store, spec({**LATENCY, "guardrail": {"margin": {"absolute": 50.0}}}, shadow={"pairs": 500}))
    assert got.exit_code == wide.exit_code == 40
    (finding,) = (f for f in got.findings if f.code == "below_noise_floor")
    assert "500 pairs" in finding.message
    assert got.noise_floor["metrics"][0]["floor"] == pytest.approx(2.8 * np.sqrt(2 * 100**2 / 500), rel=0.15)
    assert "below_noise_floor" not in codes(wide)


def test_bets_say_the_same_and_are_exact_for_few_units(tmp_path: Path) -> None:
    rows = simple(10, users=400, requests=1, refusals=(0.02, 0.4))
    with ingest(tmp_path, rows) as store:
        experiment = spec(REFUSAL, shadow={"method": "betting"})
        got = ab.shadow(store, experiment)
        m = got.metric("refusal_rate")
        assert (got.decision, m.method, m.verdict) == ("halt", "paired_betting", "harm")
        # The first 30 users only tell how large differences are: no bet was made on them.
        late = [r["refused"] * (1 if r["variant"] == CANDIDATE else -1) for r in rows if int(r["unit_id"][1:]) >= 30]
        assert f"370 units that came after the first 30: their mean difference is {np.sum(late) / 370:.4g}" in m.note
        early = ab.shadow(store, experiment, 1793491200000000 + 45 * 600 * 1_000_000, dry_run=True)
        assert early.metric("refusal_rate").status == "insufficient"  # 15 units: harm may be proven, nothing is safe
        assert early.metric("refusal_rate").verdict in ("harm", "unknown")
    (tmp_path / "same").mkdir()
    with ingest(tmp_path / "same", simple(11, users=900, requests=1)) as store:
        same = ab.shadow(store, spec(REFUSAL, shadow={"method": "betting"}))
        assert (same.decision, same.metric("refusal_rate").verdict) == ("promote", "safe")


def test_the_stage_bakes_as_the_ramp_says(tmp_path: Path) -> None:
    ramp = [{"stage": "shadow", "min_hours": 48, "min_units": 500}, {"stage": "canary", "share": 0.05}]
    with ingest(tmp_path, simple(12, users=120)) as store:
        got = ab.shadow(store, spec({**REFUSAL, "guardrail": {"margin": {"points": 0.4}}}, ramp=ramp))
    assert (got.decision, got.reason, got.exit_code) == ("hold", "baking", 10)
    assert "of 48 hours and 120 of 500 units" in got.summary


def test_answers_that_were_seen_and_sessions_in_part_are_warned_of(tmp_path: Path) -> None:
    records = simple(13, users=80, requests=4)
    rng = np.random.default_rng(13)
    kept = [{**r, "exposed": True} for r in records if r["variant"] == CONTROL or rng.random() < 0.5]
    with ingest(tmp_path, kept) as store:
        got = ab.shadow(store, spec(REFUSAL))
    assert {"candidate_seen", "sampled_by_request"} <= codes(got)
    assert got.pairs == sum(r["variant"] == CANDIDATE for r in kept)


def test_two_models_in_one_arm_are_not_trusted(tmp_path: Path) -> None:
    """The gateway mirrored to another model halfway: the average means nothing, whatever the margins."""
    rows = [
        {**r, "model": "m-other"} if r["variant"] == CANDIDATE and int(r["unit_id"][1:]) > 60 else r for r in simple(16, users=120)
    ]  # fmt: skip
    with ingest(tmp_path, rows) as store:
        got = ab.shadow(store, spec({**REFUSAL, "guardrail": {"margin": {"points": 0.4}}}))
    assert (got.decision, got.reason, got.exit_code) == ("hold", "mixed_versions", 30)


@pytest.mark.parametrize(
    ("shadow", "words"),
    [
        ({"labels": {"helpfull": "people"}}, "did you mean 'helpful'"), ({"labels": {"refusal_rate": "people"}}, "refusal_rate is no score"),
        ({"pairs": 0}, "shadow.pairs"), ({"turns": "last"}, "shadow.turns"), ({"methods": "betting"}, "shadow.methods"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(shadow: dict[str, Any], words: str) -> None:
    with pytest.raises(ab.AbtestError, match=words):
        spec(REFUSAL, {**JUDGED, "scorer_kind": "human"}, shadow=shadow)


def test_exactly_one_treatment() -> None:
    experiment = ab.Experiment.from_dict({"id": "x", "control": "a", "treatments": ["b", "c"], "metrics": [REFUSAL]})
    with ab.Store(":memory:") as store, pytest.raises(ab.AbtestError, match="exactly one treatment"):
        ab.shadow(store, experiment)


# -- command line and report -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store and an experiment file."""
    path = tmp_path_factory.mktemp("shadow")
    rows = simple(14, users=250)
    rows = [{**r, "response_chars": 100 + len(r["request_id"]), "finish_reason": "stop"} for r in rows]
    ingest(path, rows).close()
    (path / "e.toml").write_text(
        'id = "swap"\ncontrol = "base"\ntreatments = ["cand"]\n'
        '[[metrics]]\nname = "refusal_rate"\nkind = "proportion"\nevent = "refused"\nbetter = "lower"\n'
        "guardrail = { margin = { points = 0.1 } }\n"
        '[[ramp]]\nstage = "shadow"\n[[ramp]]\nstage = "canary"\nshare = 0.05\n'
    )
    return path


def test_the_command_prints_one_object_or_a_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["shadow", str(folder / "e.toml"), "--db", str(folder / "abtest.duckdb"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "abtest.shadow/1"
    for key in ("experiment", "revision", "stage", "pairs", "units", "sampled", "decision", "reason", "summary", "findings", "metrics",
                "agreement", "mcnemar", "noise_floor", "ppi", "as_of", "decision_id", "policy_sha256"):  # fmt: skip
        assert key in data
    assert data["stage"]["kind"] == "shadow"
    metric = data["metrics"][0]
    assert metric["paired"]["ci_lower"] < metric["estimate"] < metric["paired"]["ci_upper"]
    assert {"ci_lower", "ci_upper", "std_error"} <= set(metric["unpaired"])
    assert run(["shadow", str(folder / "e.toml"), "--db", str(folder / "abtest.duckdb"), "--dry-run"]) == 0
    text = capsys.readouterr().out
    for words in ("PROMOTE from shadow to canary 5 %", "dry run", "McNemar, refusal_rate", "Mirrored: 250 of 250 sessions", "by whole sessions",
                  "Both say the same: refused or not", "Also logged", "only the sharp null"):  # fmt: skip
        assert words in text


def test_errors_and_missing_stores_have_their_exit_codes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["shadow", str(folder / "e.toml"), "--db", str(folder / "none.duckdb"), "--json"]) == 40
    assert json.loads(capsys.readouterr().out)["schema"] == "abtest.error/1"
    (folder / "bad.toml").write_text((folder / "e.toml").read_text() + '[shadow]\nturn = "all"\n')
    assert run(["shadow", str(folder / "bad.toml"), "--db", str(folder / "abtest.duckdb")]) == 2
    assert "shadow.turn" in capsys.readouterr().err


def test_the_report_shows_the_shadow_stage_only_where_there_was_one(folder: Path) -> None:
    from abtest.cli.reporting import entry_of

    experiment = ab.Experiment.from_toml(folder / "e.toml")
    with ab.Store(folder / "abtest.duckdb") as store:
        ab.shadow(store, experiment)
        entry = entry_of(store, experiment)
    assert not SECTION.build(Context(Entry(entry.analysis, entry.decision, [])))
    blocks = SECTION.build(Context(entry))
    assert blocks
    page = html(build([entry]))
    assert "Was it safe before anybody saw it? Shadow" in page
    assert "250 of 250 sessions (100 %) were mirrored" in page
    assert "PROMOTE from shadow to canary 5 %" in page


def test_what_is_shown_in_a_notebook_is_escaped(tmp_path: Path) -> None:
    odd = {**REFUSAL, "name": "refusal_rate"}
    rows = [{**r, "experiment_id": "<b>x"} for r in simple(15, users=40)]
    with ingest(tmp_path, rows) as store:
        got = ab.shadow(store, spec(odd, id="<b>x"))
    assert "<b>x" not in got._repr_html_()
    assert "&lt;b&gt;x" in got._repr_html_()
    assert got.to_polars().height == len(got.metrics)
    assert got.plot().to_dict()
    assert "refusal_rate" in repr(got)
