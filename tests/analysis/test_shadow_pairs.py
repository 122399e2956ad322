"""What is a pair, and what is not: order, doubles, late scores, repeats, turns, gateways' legs, colliding ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shadow_logs import CANDIDATE, CONTROL, LATENCY, REFUSAL, Record, add, call, ingest, score, simple, spec

from abtest.analysis.shadow_judge import judge_item
from abtest.analysis.shadow_more import agreement, noise_floor, sampled
from abtest.analysis.shadow_read import ShadowEvidence, read_shadow
from abtest.analysis.shadow_results import ShadowMetric
from abtest.spec import Experiment
from abtest.store.store import Store

HELPFUL = {"name": "helpful", "kind": "mean", "score": "helpful", "better": "higher", "bounds": [0, 1]}


def judged(evidence: ShadowEvidence) -> dict[str, ShadowMetric]:
    return {i.spec.name: judge_item(evidence, i) for i in evidence.plan.items}


def read(tmp_path: Path, records: list[Record], *metrics: Any, **keys: Any) -> ShadowEvidence:
    with ingest(tmp_path, records) as store:
        return read_shadow(store, spec(*(metrics or (REFUSAL,)), **keys))


def numbers(evidence: ShadowEvidence) -> dict[str, Any]:
    """Return the evidence without its watermark."""
    return {
        "moments": evidence.moments,
        "facts": evidence.facts,
        "sessions": evidence.sessions,
        "agreement": evidence.agreement,
    }


def test_the_order_of_rows_and_files_changes_nothing(tmp_path: Path) -> None:
    records = simple(3, users=40)
    order = np.random.default_rng(1).permutation(len(records))
    shuffled = [records[i] for i in order]
    hashes: set[str] = set()
    for n, files in enumerate(([records], [shuffled], [shuffled[:50], shuffled[50:90], shuffled[90:]])):
        (tmp_path / str(n)).mkdir()
        with ingest(tmp_path / str(n), *files) as store:
            evidence = read_shadow(store, spec(REFUSAL, LATENCY))
            assert evidence.pairs == len(records) / 2
            hashes.add(evidence.sha256())
    assert len(hashes) == 1


def test_a_record_that_comes_twice_is_one_pair(tmp_path: Path) -> None:
    records = simple(3, users=12)
    with ingest(tmp_path, records) as store:
        first = read_shadow(store, spec(REFUSAL))
        add(store, tmp_path, records[::-1])
        assert numbers(read_shadow(store, spec(REFUSAL))) == numbers(first)


def test_swapped_arms_say_the_opposite(tmp_path: Path) -> None:
    records = simple(4, users=60, effect=0.2)
    swapped = [
        {**r, "variant": {CONTROL: CANDIDATE, CANDIDATE: CONTROL}[r["variant"]], "exposed": not r["exposed"]} for r in records
    ]  # fmt: skip
    sides: list[dict[str, ShadowMetric]] = []
    for name, rows in (("a", records), ("b", swapped)):
        (tmp_path / name).mkdir()
        sides.append(judged(read(tmp_path / name, rows, {**LATENCY, "guardrail": {"margin": {"absolute": 40.0}}})))
    a, b = (s["latency"] for s in sides)
    assert a.estimate == pytest.approx(-(b.estimate or 0.0), rel=1e-12)
    assert a.paired["std_error"] == pytest.approx(b.paired["std_error"], rel=1e-12)
    assert (a.ci_lower, a.ci_upper) == pytest.approx(
        (-(b.ci_upper or 0.0), -(b.ci_lower or 0.0)), rel=0.2
    )  # other control, other tuning
    assert (a.ci_lower or 0.0) > 0 > (b.ci_upper or 0.0)
    assert a.correlation == pytest.approx(b.correlation, rel=1e-12)


def test_sums_of_disjoint_users_add_up(tmp_path: Path) -> None:
    records = simple(5, users=50)
    parts = [[r for r in records if (int(r["unit_id"][1:]) % 2 == k)] for k in (0, 1)]
    found: list[ShadowEvidence] = []
    for n, rows in enumerate((records, *parts)):
        (tmp_path / str(n)).mkdir()
        found.append(read(tmp_path / str(n), rows, REFUSAL, LATENCY))
    whole, *halves = (e.moments or {} for e in found)
    assert whole == {k: sum(h[k] for h in halves) for k in whole}
    assert whole["units"] == 50


def test_a_late_score_enters_and_changes_nothing_before(tmp_path: Path) -> None:
    records = simple(6, users=40)
    scores = [
        score(r["interaction_id"], "helpful", 0.25 if r["variant"] == CONTROL else 0.75, seconds=9e5) for r in records
    ]
    with ingest(tmp_path, records, scores[: len(scores) // 2]) as store:
        experiment, cut = spec(HELPFUL), store.last_file()
        before = read_shadow(store, experiment)
        add(store, tmp_path, scores[len(scores) // 2 :])
        after = read_shadow(store, experiment)
        assert judged(before)["helpful"].pairs < judged(after)["helpful"].pairs == len(records) / 2
        assert judged(after)["helpful"].estimate == pytest.approx(0.5)
        again = read_shadow(store, experiment, as_of_us=before.as_of_us, max_file=cut)
        assert again.sha256() == before.sha256()


def test_what_came_later_is_not_read_at_an_earlier_watermark(tmp_path: Path) -> None:
    """Candidates that answer a week later (a replay) are pairs from then on."""
    records = simple(7, users=30)
    replayed = [
        {**r, "ts": f"2026-11-09T00:00:{n % 60:02d}+00:00"} if r["variant"] == CANDIDATE else r
        for n, r in enumerate(records)
    ]
    with ingest(tmp_path, replayed) as store:
        late = read_shadow(store, spec(REFUSAL))
        early = read_shadow(store, spec(REFUSAL), as_of_us=1793750400000000)  # 4 November
        assert (early.pairs, late.pairs) == (0, len(records) / 2)
        assert late.moments is not None


def test_only_requests_with_both_answers_are_pairs(tmp_path: Path) -> None:
    lone = [call("only-control", CONTROL, unit_id="u"), call("only-candidate", CANDIDATE, unit_id="u")]
    unseen = [call("never-seen", CONTROL, exposed=False, unit_id="u"), call("never-seen", CANDIDATE, unit_id="u")]
    other = [
        call("other", CONTROL, unit_id="u", operation="embeddings"),
        call("other", CANDIDATE, unit_id="u", operation="embeddings"),
    ]
    evidence = read(tmp_path, [*simple(8, users=3), *lone, *unseen, *other])
    assert evidence.pairs == len(simple(8, users=3)) / 2
    assert evidence.facts["matched"] == evidence.pairs


def test_a_leg_without_a_unit_belongs_to_the_user_who_saw_the_other_answer(tmp_path: Path) -> None:
    records = [{k: v for k, v in r.items() if k != "unit_id" or r["exposed"]} for r in simple(9, users=20)]
    evidence = read(tmp_path, records)
    assert (evidence.pairs, evidence.units) == (len(records) / 2, 20)


def test_one_request_id_of_two_users_is_two_requests(tmp_path: Path) -> None:
    def log(unit: str, refused: bool) -> list[Record]:
        return [
            call("1", CONTROL, ident=f"{unit}c", unit_id=unit, refused=False),
            call("1", CANDIDATE, ident=f"{unit}t", unit_id=unit, refused=refused),
        ]

    stray = call("1", CANDIDATE, ident="stray", refused=True)  # whose request this was nobody knows
    evidence = read(tmp_path, [*log("u1", True), *log("u2", False), stray])
    assert (evidence.pairs, evidence.units) == (2, 2)
    assert evidence.facts["treated0"] == 1


def test_later_turns_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    records = simple(10, users=20)
    for r in records:
        if r["request_id"].endswith(("-1", "-2")) and r["exposed"]:
            r["turn"] = 2  # the leg does not say which turn it was
    with ingest(tmp_path, records) as store:
        first, every = (read_shadow(store, spec(REFUSAL, shadow={"turns": turns})) for turns in ("first", "all"))
    later = sum(r["request_id"].endswith(("-1", "-2")) for r in records) / 2
    assert later > 10
    assert (first.pairs, every.pairs) == (len(records) / 2 - later, len(records) / 2)
    assert sampled(first)["later_turns"] == sampled(every)["later_turns"] == later


def test_the_population_is_that_of_the_answer_that_was_seen(tmp_path: Path) -> None:
    records = simple(12, users=20)
    for r in records:
        if r["exposed"]:
            r["surface"] = "support" if int(r["unit_id"][1:]) < 5 else "search"
    assert read(tmp_path, records, population={"where": "surface = 'support'"}).units == 5


def test_repeated_answers_are_averaged_before_anything_else(tmp_path: Path) -> None:
    """Three answers of the candidate count as their mean; the noise floor comes from what differs between them."""
    rng = np.random.default_rng(2)
    rows, between = [], []
    for n in range(60):
        own = rng.normal(500, 80)
        values = [round(float(own + rng.normal(0, 20)), 3) for _ in range(4)]
        between.append(np.mean(values[1:]) - values[0])
        rows.append(call(f"r{n}", CONTROL, unit_id=f"u{n}", latency_ms=values[0]))
        rows += [
            call(f"r{n}", CANDIDATE, ident=f"r{n}:{k}", unit_id=f"u{n}", latency_ms=values[k], repeat=k, seconds=k)
            for k in (1, 2, 3)
        ]
        rows.append({**rows[-1], "interaction_id": f"r{n}:x", "repeat": None, "request_id": f"lone{n}"})
        del rows[-1]["repeat"]
    with ingest(tmp_path, rows) as store:
        evidence = read_shadow(store, spec(LATENCY))
        planned = read_shadow(store, spec(LATENCY, shadow={"pairs": 6000}))
    got = judged(evidence)["latency"]
    assert (evidence.pairs, evidence.common) == (60, 3)
    assert got.estimate == pytest.approx(np.mean(between), rel=1e-9)
    assert got.paired["std_error"] == pytest.approx(np.std(between) / np.sqrt(60), rel=1e-9)
    row = next(r for r in noise_floor(evidence)["metrics"] if r["metric"] == "latency")
    values = np.array(
        [[r["latency_ms"] for r in rows if r["request_id"] == f"r{n}" and "repeat" in r] for n in range(60)]
    )
    within = values.var(axis=1, ddof=1).mean()
    assert row["within_variance_treatment"] == pytest.approx(within, rel=1e-9)
    assert row["within_variance_control"] is None
    assert (row["requests"], row["df"]) == (60, 120)
    assert row["floor"] == pytest.approx((1.959964 + 0.841621) * np.sqrt((within + within / 3) / 60), rel=1e-5)
    assert next(r for r in noise_floor(planned)["metrics"] if r["metric"] == "latency")["floor"] == pytest.approx(
        row["floor"] / 10
    )


def test_a_gateway_s_copy_is_told_by_what_it_ran(tmp_path: Path) -> None:
    """LiteLLM copies the user's tags to the silent leg: the variant on it is control's, the model is not."""
    records = simple(13, users=20)
    copied = [{**r, "variant": CONTROL} for r in records]
    bare = [{k: v for k, v in r.items() if k not in ("variant", "experiment_id") or r["exposed"]} for r in records]
    arms = {CONTROL: {"model": "m-base"}, CANDIDATE: {"model": "m-cand"}}
    for n, rows in enumerate((copied, bare)):
        for with_arms in (True, False):
            (tmp_path / f"{n}{with_arms}").mkdir()
            evidence = read(tmp_path / f"{n}{with_arms}", rows, **({"arms": arms} if with_arms else {}))
            assert evidence.pairs == (len(records) / 2 if with_arms else 0)


def test_logs_without_any_variant_are_told_by_what_ran(tmp_path: Path) -> None:
    records = [{k: v for k, v in r.items() if k != "variant"} for r in simple(14, users=20)]
    arms = {CONTROL: {"model": "m-base"}, CANDIDATE: {"model": "m-cand"}}
    assert read(tmp_path, records, arms=arms).pairs == len(records) / 2


def test_an_assignment_is_of_what_the_user_saw(tmp_path: Path) -> None:
    """The user was assigned to control; the silent answer is the candidate's all the same."""
    records = [
        {k: v for k, v in r.items() if k != "variant" or not r["exposed"]} for r in simple(15, users=20)
    ]  # fmt: skip
    assigned = [
        {"type": "assignment", "experiment_id": "swap", "unit_id": f"u{u}", "variant": CONTROL, "ts": "2026-10-31T00:00:00+00:00", "reason": "split"}
        for u in range(20)
    ]  # fmt: skip
    assert read(tmp_path, [*assigned, *records]).pairs == len(records) / 2


def test_legs_of_the_real_gateway_are_pairs(tmp_path: Path) -> None:
    """LiteLLM's Router: rows of silent_model without a mark of their own, and rows with one (tests/ingest/fixtures/litellm)."""
    folder = Path(__file__).parents[1] / "ingest" / "fixtures" / "litellm"
    arms = {"control": {"model": "openai/gpt-4o"}, "candidate": {"model": "openai/gpt-4o-mini"}}
    experiment = Experiment.from_dict({
        "id": "e1", "control": "control", "treatments": ["candidate"], "arms": arms,
        "metrics": [{"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower"}],
    })  # fmt: skip
    payloads = [json.loads(line) for line in (folder / "router.silent_marked.jsonl").read_text().splitlines()]
    for payload in payloads:
        payload["metadata"].pop("is_silent_experiment", None)
    (tmp_path / "router.jsonl").write_text("\n".join(map(json.dumps, payloads)))
    with Store(tmp_path / "a.duckdb") as store:
        assert store.ingest(tmp_path / "router.jsonl").inserted == 5
        evidence = read_shadow(store, experiment)
        assert (evidence.pairs, evidence.units) == (2, 2)
        got = judged(evidence)["latency"]
        ms = {p["litellm_call_id"]: round(p["response_time"] * 1000, 6) for p in payloads}
        ids = [p["litellm_call_id"] for p in payloads]  # primary, its leg, another model's, a leg, its primary
        assert got.treatment_value == pytest.approx((ms[ids[1]] + ms[ids[3]]) / 2, abs=1e-3)
        assert got.control_value == pytest.approx((ms[ids[0]] + ms[ids[4]]) / 2, abs=1e-3)
    with Store(tmp_path / "b.duckdb") as store:
        store.ingest(folder / "router.silent_tagged.jsonl")
        assert read_shadow(store, experiment).pairs == 2


@pytest.mark.parametrize(("by", "word"), [("session", "session"), ("request", "request")])
def test_sampling_by_session_is_told_from_sampling_by_request(tmp_path: Path, by: str, word: str) -> None:
    rng = np.random.default_rng(4)
    rows: list[Record] = []
    for s in range(60):
        whole = rng.random() < 0.5 or s == 5
        for k in range(3):
            rows.append(call(f"r{s}-{k}", CONTROL, unit_id=f"u{s}", session_id=f"s{s}", seconds=s * 60 + k))
            if whole if by == "session" else rng.random() < 0.5:
                rows.append(call(f"r{s}-{k}", CANDIDATE, session_id=f"s{s}", seconds=s * 60 + k + 0.5))
    how = sampled(read(tmp_path, rows))
    mirrored = {r["session_id"] for r in rows if not r["exposed"]}
    numbers = sorted(int(s[1:]) for s in mirrored)
    sessions = numbers[-1] - numbers[0] + 1  # those that began while requests were mirrored
    assert (how["by"], how["sessions"], how["sessions_mirrored"]) == (word, sessions, len(mirrored))
    assert how["share"] == len(mirrored) / sessions
    partly = [s for s in mirrored if sum(r["session_id"] == s and not r["exposed"] for r in rows) < 3]
    # The window opens with the first request that was mirrored and closes with the last: there a session may be cut.
    assert len(partly) - 2 <= how["sessions_partly"] <= len(partly)
    assert (how["sessions_partly"] == 0) == (by == "session")


def test_agreement_is_exact_equality_and_text_only_where_it_was_kept(tmp_path: Path) -> None:
    rows: list[Record] = []
    for n in range(10):
        for arm in (CONTROL, CANDIDATE):
            rows.append(call(
                f"r{n}", arm, unit_id=f"u{n}", response_text="yes" if arm == CONTROL or n < 4 else "no", format_ok=n != 0 or arm == CONTROL,
                refused=None if n == 9 else False, finish_reason="stop" if n or arm == CONTROL else "length",
                attributes={"embedding_similarity": 0.5 + n / 20} if arm == CANDIDATE else {},
            ))  # fmt: skip
    for keep in (False, True):
        (tmp_path / str(keep)).mkdir()
        with ingest(tmp_path / str(keep), rows, keep_text=keep) as store:
            found = agreement(read_shadow(store, spec(REFUSAL)))
        assert found["format_ok"] == {"pairs": 10, "same": 9, "rate": 0.9}
        assert found["refused"] == {"pairs": 9, "same": 9, "rate": 1.0}
        assert found["finish_reason"]["rate"] == 0.9
        assert found["response"] == (
            {"pairs": 10, "same": 4, "rate": 0.4} if keep else {"pairs": 0, "same": 0, "rate": None}
        )
        assert found["embedding_similarity"]["mean"] == pytest.approx(np.mean([0.5 + n / 20 for n in range(10)]))


def test_what_users_click_is_not_asked_of_answers_that_nobody_saw(tmp_path: Path) -> None:
    thumbs = {
        "name": "thumbs_down", "kind": "proportion", "score": "thumbs", "absent": "no", "better": "lower",
        "guardrail": {"margin": {"points": 0.01}},
    }  # fmt: skip
    requests = {"name": "requests", "kind": "count", "better": "higher", "guardrail": {"margin": {"relative": 0.05}}}
    got = judged(read(tmp_path, simple(16, users=40), thumbs, requests))
    for name, word in (("thumbs_down", "nobody saw"), ("requests", "same requests")):
        assert (got[name].role, got[name].status, got[name].verdict) == ("info", "unsupported", "unknown")
        assert word in got[name].note
