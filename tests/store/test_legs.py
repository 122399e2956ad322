"""A silent leg of LiteLLM's Router that carries no mark never counts as user traffic; attempts and fallbacks do."""

from __future__ import annotations

import itertools
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from governance_tools import Con, Writer, calls, empty, merged, rows, score, targets

from abtest.analysis.analyze import analyze
from abtest.spec import Experiment
from abtest.store.load import load
from abtest.store.settle import rebuild
from abtest.store.store import Store

FIXTURES = Path(__file__).parents[1] / "ingest" / "fixtures" / "litellm"


def payloads(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / name).read_bytes().splitlines()]


def unmarked() -> list[dict[str, Any]]:
    """The Router's rows as it writes them: `is_silent_experiment` stands only in the arguments of a callback."""
    found = payloads("router.silent_marked.jsonl")
    for payload in found:
        payload["metadata"].pop("is_silent_experiment", None)
    return found


PRIMARY, LEG, SECOND_LEG, SYNC_LEG, SYNC_PRIMARY = (each["litellm_call_id"] for each in unmarked())


def made(base: int, call_id: str, start: float, seconds: float, **fields: Any) -> dict[str, Any]:
    """Return a payload like one of the fixture's, at another time."""
    payload = deepcopy(unmarked()[base])
    begin = unmarked()[0]["startTime"] + start
    times = {
        "startTime": begin,
        "endTime": begin + seconds,
        "completionStartTime": begin + seconds,
        "response_time": seconds,
    }
    return payload | {"id": f"chatcmpl-{call_id}", "litellm_call_id": call_id} | times | fields


def unseen(con: Con) -> dict[str, str]:
    return {r["interaction_id"]: r["request_id"] for r in merged(con) if not r["exposed"]}


def test_unmarked_legs_are_found_whatever_the_order(tmp_path: Path) -> None:
    trace = unmarked()[3]["trace_id"]
    expected = {LEG: "r-9", SECOND_LEG: "r-9", SYNC_LEG: trace}
    for order in list(itertools.permutations(unmarked()))[::13]:
        con, write = empty(), Writer(tmp_path)
        reports = [write.load(con, payload) for payload in order[:2]]
        reports.append(write.load(con, *order[2:]))
        assert unseen(con) == expected
        assert sum(report.shadow_legs for report in reports) >= 3
        assert {report.twins for report in reports} == {0}
        con.close()


def test_the_raw_rows_stay_and_a_replay_sees_what_was_known(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    primary, leg, *_ = unmarked()
    assert write.load(con, leg).shadow_legs == 0
    report = write.load(con, primary)
    assert (report.shadow_legs, report.to_dict()["shadow_legs"], report.twins) == (1, 1, 0)
    assert rows(con, "SELECT DISTINCT exposed FROM interaction") == [(True,)]
    assert calls(con) == sorted([PRIMARY, LEG])
    raw = con.execute("SELECT * EXCLUDE (exposed, file_id) FROM interaction WHERE interaction_id = ?", [LEG]).fetchall()
    kept = con.execute("SELECT * EXCLUDE (exposed, file_id, until_file) FROM merged_interaction").fetchall()
    assert kept == raw
    assert merged(con, 1) == []
    assert set(rebuild(con).values()) == {0}


def test_marked_legs_need_nothing() -> None:
    for path in sorted(FIXTURES.glob("*.jsonl")):
        con = empty()
        assert load(con, [path]).shadow_legs == 0, path.name
        assert rows(con, "SELECT * FROM twin") == []


PRIMARY_AT = {"base": 0, "start": 0, "seconds": 1}
LEG_AT = {"base": 1, "start": 0.01, "seconds": 2}


@pytest.mark.parametrize(
    ("why", "changed", "is_leg"),
    [
        ("the mirror of the request", {}, True),
        ("a fallback begins when the attempt has ended", {"start": 1.1}, False),
        ("a fallback of an attempt that nobody logged", {"hidden_params": {"additional_headers": {"x-litellm-attempted-fallbacks": 1}}}, False),
        ("another question", {"messages": [{"role": "user", "content": "else"}]}, False),
        ("messages are not logged", {"messages": [{"role": "user", "content": "redacted-by-litellm"}]}, False),
        ("the same model group", {"model_group": "prod2"}, False),
        ("another trace", {"trace_id": "0f7c9d80-23c2-4b4d-93a5-1d4d5d4ba28c"}, False),
        ("another user", {"end_user": "u7"}, False),
        ("another arm", {"metadata": {"spend_logs_metadata": {"experiment_id": "e1", "variant": "b", "request_id": "r-9"}}}, False),
        ("another request", {"metadata": {"spend_logs_metadata": {"experiment_id": "e1", "variant": "control", "request_id": "q"}}}, False),
        ("embeddings", {"call_type": "aembedding"}, False),
    ],
)  # fmt: skip
def test_what_is_a_leg(tmp_path: Path, why: str, changed: dict[str, Any], is_leg: bool) -> None:
    con, write = empty(), Writer(tmp_path)
    write.load(con, made(call_id="a", **PRIMARY_AT), made(call_id="b", **{**LEG_AT, **changed}))
    assert rows(con, "SELECT count(*) FROM interaction") == [(2,)]
    assert unseen(con) == ({"b": "r-9"} if is_leg else {}), why


@pytest.mark.parametrize(
    ("primary", "leg", "start", "is_leg"),
    [
        ("completion", "acompletion", 0.01, True),
        ("completion", "acompletion", -0.001, True),  # two threads: the leg may be the first to begin
        ("completion", "acompletion", -0.2, False),
        ("acompletion", "acompletion", -0.001, None),  # then the other one is the leg
        ("acompletion", "acompletion", 0, False),  # cannot tell which
        ("completion", "completion", 0.01, False),  # the Router mirrors asynchronously
    ],
)
def test_a_synchronous_router(tmp_path: Path, primary: str, leg: str, start: float, is_leg: bool | None) -> None:
    con, write = empty(), Writer(tmp_path)
    write.load(con, made(1, "b", start, 2, call_type=leg), made(0, "a", 0, 1, call_type=primary))
    assert set(unseen(con)) == ({"a"} if is_leg is None else {"b"} if is_leg else set())


def test_a_retry_that_begins_while_the_first_leg_runs_is_the_users(tmp_path: Path) -> None:
    attempts = [
        made(0, "fails", 0, 1, status="failure", error_information={"error_class": "Timeout"}),
        made(1, "leg-1", 0.01, 5),
        made(0, "retry", 1.5, 1),
        made(1, "leg-2", 1.51, 5),
        made(2, "fallback", 3, 1),
        made(1, "leg-3", 3.01, 1),
    ]
    for order in list(itertools.permutations(attempts))[::103]:
        con, write = empty(), Writer(tmp_path)
        for payload in order:
            write.load(con, payload)
        assert set(unseen(con)) == {"leg-1", "leg-2", "leg-3"}
        con.close()


def test_a_request_without_an_id_is_paired_by_the_primarys(tmp_path: Path) -> None:
    """The trace may be a whole conversation: then its two turns must not become one request."""
    con, write = empty(), Writer(tmp_path)
    plain = {"trace_id": "chat-7", "metadata": {}}
    turns = [
        made(base, name, at, 1, **plain)
        for base, name, at in ((0, "a", 0), (1, "a2", 0.1), (0, "b", 60), (1, "b2", 60.1))
    ]
    assert write.load(con, *turns).shadow_legs == 2
    assert unseen(con) == {"a2": "a", "b2": "b"}


def test_a_score_of_the_request_or_trace_is_one_of_the_answer_that_was_seen(tmp_path: Path) -> None:
    primary, leg, *_ = unmarked()
    lines = [primary, leg]
    feedback = [
        score("by-request", request_id="r-9", variant="control"),
        score("by-trace", trace_id=primary["trace_id"]),
    ]
    for order in list(itertools.permutations([*lines, *feedback]))[::3]:
        con, write = empty(), Writer(tmp_path)
        for record in order:
            write.load(con, record)
        assert targets(con) == {"by-request": PRIMARY, "by-trace": PRIMARY}
        con.close()


def test_a_leg_that_the_sdk_logged_too_is_unseen_as_a_whole(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    primary, leg, *_ = unmarked()
    sdk = {"interaction_id": "sdk", "ts": "2026-11-23T06:45:36.2Z", "model": "m", "provider_response_id": leg["id"]}
    write.load(con, sdk | {"trace_id": "own"}, score("s", trace_id="own"))
    assert write.load(con, leg).twins == 1
    assert unseen(con) == {}
    report = write.load(con, primary)
    assert (report.shadow_legs, report.twins) == (1, 0)
    assert unseen(con) == {LEG: "r-9"}
    assert calls(con) == sorted([PRIMARY, LEG])


SPEC = """
id = "e1"
control = "control"
treatments = ["b"]
[[metrics]]
name = "cost"
kind = "mean"
value = "output_tokens"
per = "call"
better = "lower"
"""


def test_an_analysis_counts_no_leg(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(SPEC)
    experiment = Experiment.from_toml(tmp_path / "e.toml")
    answers, mirrors = [], []
    for k in range(80):
        own = {"experiment_id": "e1", "variant": ("control", "b")[k % 2], "request_id": f"r{k}"}
        who = {
            "trace_id": f"00000000-0000-4000-8000-{k:012}", "end_user": f"u{k}", "metadata": {"spend_logs_metadata": own}, "request_tags": [],
        }  # fmt: skip
        answers.append(made(0, f"a{k:02}", 10 * k, 1, **who, prompt_tokens=3, completion_tokens=5))
        mirrors.append(made(1, f"m{k:02}", 10 * k + 0.01, 1, **who, prompt_tokens=3, completion_tokens=500))
    write = Writer(tmp_path)
    with Store(tmp_path / "s.duckdb") as store:
        store.ingest(write(*answers))
        before = analyze(store, experiment)
        last = store.last_file()
        report = store.ingest(write(*mirrors))
        assert report.shadow_legs == 80
        after = analyze(store, experiment)
        assert [(arm.units, arm.interactions) for arm in after.arms] == [(40, 40), (40, 40)]
        assert (after.metrics[0].control_value, after.metrics[0].treatment_value) == (5, 5)
        assert after.metrics[0].n_control == before.metrics[0].n_control
        assert analyze(store, experiment, max_file=last).metrics[0].control_value == 5
