"""LangSmith: genuine uploads of the SDK and LangChain, shapes of the exports, and what must not be believed."""

from __future__ import annotations

import email
import json
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.ingest import Ignored, Reject, detect, get
from abtest.ingest.langsmith_multipart import multipart_to_texts
from abtest.records import Interaction, Score
from abtest.store.load import load

FIXTURES = Path(__file__).parent / "fixtures"
FILES = {file.name: file for folder in ("langsmith", "langsmith_same") for file in (FIXTURES / folder).glob("*.jsonl")}
FORMAT = get("langsmith")
WIRE = [(FIXTURES / "langsmith_wire" / f"runs_multipart_{n}.body").read_bytes() for n in (1, 2)]


def objects(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILES[name].read_bytes().splitlines()]


def items(value: dict[str, Any]) -> list[Any]:
    return list(FORMAT.read(json.dumps(value).encode(), 1, 0))


def read(value: dict[str, Any]) -> Any:
    (item,) = items(value)
    return item


def calls(name: str) -> list[Interaction]:
    return [item for value in objects(name) for item in items(value) if isinstance(item, Interaction)]


def changed(value: dict[str, Any], /, **fields: Any) -> dict[str, Any]:
    return {**deepcopy(value), **fields}


API = objects("runs_api.jsonl")
RUN = next(run for run in API if run["run_type"] == "llm")
FEEDBACK = {
    "id": "f1",
    "key": "quality",
    "score": 0.5,
    "run_id": "r1",
    "trace_id": "t1",
    "created_at": "2026-11-23T06:00:00+00:00",
    "feedback_source": {"type": "app", "user_id": "anna"},
}


def by_unit(name: str) -> dict[str | None, Interaction]:
    return {call.unit_id: call for call in calls(name)}


def oracle(body: bytes) -> dict[str, dict[str, Any]]:
    """The runs of a multipart body, read by Python's mail parser."""
    boundary = body.split(b"\r\n", 1)[0][2:]
    message = email.message_from_bytes(b"Content-Type: multipart/form-data; boundary=" + boundary + b"\r\n\r\n" + body)
    runs: dict[str, dict[str, Any]] = {}
    for part in message.get_payload():
        verb, run, *field = str(part.get_param("name", header="content-disposition")).split(".")  # type: ignore[union-attr]
        value = json.loads(part.get_payload(decode=True))  # type: ignore[arg-type, union-attr]
        told = {field[0]: value} if field else value
        kept = {k: v for k, v in told.items() if v is not None} if verb == "patch" else told
        runs.setdefault(run, {}).update(kept)
    return runs


@pytest.mark.parametrize("body", WIRE, ids=["posts", "posts and patches"])
def test_multipart_is_what_a_mail_parser_sees(body: bytes) -> None:
    texts = multipart_to_texts(body)
    assert texts is not None
    assert [json.loads(text) for text in texts] == list(oracle(body).values())
    assert [b"\n" in text for text in texts] == [False] * len(texts)


def test_a_run_whose_end_comes_in_a_later_upload_is_taken_once() -> None:
    first, second = ([FORMAT.read(text, 1, 0)[0] for text in multipart_to_texts(body) or []] for body in WIRE)
    assert [type(item).__name__ for item in first] == ["Ignored", "LoggedInteraction", "Ignored", "Ignored"]
    done = [item for item in [*first, *second] if isinstance(item, Interaction)]
    assert [call.unit_id for call in done] == ["u1", "u4", "u2"]
    assert [call.variant for call in done] == ["control", "control", "treatment"]
    assert [call.refused for call in done] == [False, None, True]
    assert [call.is_error for call in done] == [False, True, False]
    assert {call.experiment_id for call in done} == {"support_prompt_v7"}
    refusal = done[2]
    assert refusal.interaction_id == "01a20631-fc29-73e9-89bc-4100eced018d"
    assert refusal.trace_id == "93483290-3865-427c-b44c-fa9f83ed237e"
    assert refusal.ts.isoformat() == "2026-11-23T02:17:48.841812+00:00"
    assert refusal.latency_ms == 76.66
    assert refusal.response_text == "I'm sorry, I can't help with that."
    assert refusal.prompt_text is None  # the inputs were in the first upload


def test_several_uploads_in_one_file() -> None:
    texts = multipart_to_texts(WIRE[0] + WIRE[1])
    assert texts is not None
    merged = {run["id"]: run for run in map(json.loads, texts)}
    late = merged["01a20631-fc29-73e9-89bc-4100eced018d"]
    assert late["end_time"] == "2026-11-23T02:17:48.918472+00:00"
    assert late["inputs"]["temperature"] == 0.2
    assert len(merged) == 6


def test_feedback_in_a_compressed_upload() -> None:
    zstandard = pytest.importorskip("zstandard")
    raw = (FIXTURES / "langsmith_wire" / "feedback_multipart.body.zst").read_bytes()
    texts = multipart_to_texts(zstandard.ZstdDecompressor().decompressobj().decompress(raw))
    assert texts is not None
    scores = [FORMAT.read(text, 1, 0)[0] for text in texts]
    assert [(score.name, score.value) for score in scores] == [("helpfulness", 0.8), ("thumbs", 1.0), ("pref", 1.0)]


def part(name: str, content: bytes, *, length: int | None = None) -> bytes:
    size = b"" if length is None else b"Content-Length: %d\r\n" % length
    return (
        b'--b\r\nContent-Disposition: form-data; name="'
        + name.encode()
        + b'"\r\nContent-Type: application/json\r\n'
        + size
        + b"\r\n"
        + content
        + b"\r\n"
    )


def test_a_broken_part_rejects_its_run_and_no_other() -> None:
    body = part("post.a", b'{"id":"a","run_type":"llm"}') + part("post.a.outputs", b'{"x":') + part("patch.a", b"{}")
    texts = multipart_to_texts(body + part("post.b", b'{"id":"b","run_type":"tool"}') + b"--b--\r\n")
    assert texts == [b'{"x":', b'{"id":"b","run_type":"tool"}']
    assert isinstance(FORMAT.read(texts[0], 1, 0)[0], Reject)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_body_that_is_cut_off_takes_no_half_run(cut: int) -> None:
    texts = multipart_to_texts(WIRE[0][:-cut])
    assert texts is not None
    assert len(texts) == 4
    whole = {text for body in WIRE[:1] for text in multipart_to_texts(body) or []}
    assert all(text in whole or isinstance(FORMAT.read(text, 1, 0)[0], Reject) for text in texts)


def test_attachments_are_dropped_and_may_look_like_a_boundary() -> None:
    blob = b"\x89PNG\r\n--b\r\nnonsense"
    body = part("attachment.a.pic", blob, length=len(blob)) + part("post.a", b'{"id":"a"}') + b"--b--\r\n"
    assert multipart_to_texts(body) == [b'{"id":"a"}']


def test_line_feeds_alone_will_do() -> None:
    assert multipart_to_texts(WIRE[1].replace(b"\r\n", b"\n")) == multipart_to_texts(WIRE[1])


@pytest.mark.parametrize("body", [b"", b"--", b"{}", b"--b\r\nX: y\r\n\r\n{}", b"--b", b"\x00" * 100, b"-" * 1000])
def test_what_is_no_multipart_body(body: bytes) -> None:
    assert multipart_to_texts(body) is None


def test_parts_of_no_known_kind_are_rejected_not_lost() -> None:
    texts = multipart_to_texts(part("other.a", b"{}") + part("post.a", b"[1]") + part("post.b", b"") + b"--b--")
    assert texts is not None
    assert len(texts) == 3
    assert all(isinstance(FORMAT.read(text, 1, 0)[0], Reject) for text in texts)


@given(st.data())
def test_damaged_uploads_never_raise(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(WIRE))
    start = data.draw(st.integers(0, len(body)))
    damage = data.draw(st.sampled_from([b"", b"\r\n", b"--", b"\x00", b'"', b"\r\n\r\n", body[:40]]))
    texts = multipart_to_texts(body[:start] + damage + body[start + data.draw(st.integers(0, 300)) :])
    for text in texts or []:
        assert all(isinstance(item, (Interaction, Reject, Ignored)) for item in FORMAT.read(text, 1, 0))


def test_sdk_batches() -> None:
    """`/runs/batch` bodies: posts and patches of one run may be in different bodies."""
    raw = objects("sdk_batches.jsonl")
    runs: dict[str, dict[str, Any]] = {}
    for body in raw:
        for run in [*body["post"], *body.get("patch", [])]:
            runs.setdefault(run["id"], {}).update(run)
    models = {key: run for key, run in runs.items() if run["run_type"] in ("llm", "embedding")}
    assert len(models) == 15
    found = {call.interaction_id: call for call in calls("sdk_batches.jsonl")}
    assert found.keys() == models.keys()
    assert {key: call.unit_id for key, call in found.items()} == {
        key: run["extra"]["metadata"].get("user_id") for key, run in models.items()
    }


def test_what_the_openai_wrapper_logs() -> None:
    call = by_unit("sdk_batches.jsonl")
    assert {unit: found.finish_reason for unit, found in call.items()} == {
        "u1": "stop",
        "u2": "stop",
        "u3": "stop",
        "u4": None,
        "u5": "tool",
        "u6": "length",
        "u7": "content_filter",
        "u8": "stop",
        "u9": None,
        "u10": None,
        "u11": "stop",
        "u12": "stop",
        "u13": "stop",
        None: None,
    }
    assert (call["u2"].refused, call["u1"].refused, call["u5"].refused) == (True, False, False)
    assert (call["u7"].refused, call["u4"].refused) == (None, None)
    assert (call["u3"].refused, call["u8"].refused) == (None, None)  # streams lose refusals, so False would be a guess
    assert (call["u3"].stream, call["u1"].stream) == (True, None)
    assert call["u3"].ttft_ms == pytest.approx(397.536)
    assert (call["u4"].error_type, call["u4"].http_status, call["u4"].input_tokens) == ("RateLimitError", 429, None)
    assert (call["u9"].operation, call["u9"].embedding_model_version) == ("embeddings", "text-embedding-3-small")
    assert (call["u9"].input_tokens, call["u9"].prompt_text, call["u9"].response_text) == (5, None, None)
    assert (call["u10"].model, call["u10"].provider, call["u10"].cost_usd) == ("acme-1", "acme", 0.03)
    assert call["u11"].provider_response_id == "resp_fake000009"
    assert (call["u12"].operation, call["u12"].response_text) == ("text_completion", "Paris.")
    assert call["u1"].attributes == {"run_name": "ChatOpenAI", "tags": ["team-a"]}
    assert call["u5"].tools_sha256 is not None


def test_what_langchain_logs() -> None:
    found = calls("langchain_runs.jsonl")
    assert Counter(call.model for call in found) == {"gpt-4o": 6, "claude-sonnet-5": 4, "gpt-3.5-turbo-instruct": 1}
    assert Counter(call.variant for call in found) == {"control": 9, "b": 2}
    assert Counter(call.refused for call in found) == {True: 3, False: 5, None: 3}
    wrapped = [call for call in found if call.variant == "b"]
    assert [(call.finish_reason, call.refused) for call in wrapped] == [("stop", False), ("refusal", True)]
    assert [(call.experiment_id, call.unit_id, call.prompt_version) for call in wrapped] == [("e1", "u1", "v7")] * 2
    assert [(call.input_tokens, call.cached_input_tokens) for call in wrapped] == [(17, 4)] * 2
    (failed,) = (call for call in found if call.is_error)
    assert (failed.error_type, failed.http_status, failed.response_text) == ("OpenAIRateLimitError", 429, None)
    chains = [call for call in found if call.variant == "control"]
    assert {call.session_id for call in chains} == {"t1"}
    assert {call.prompt_version for call in chains} == {"7"}
    assert {call.attributes["region"] for call in chains} == {"eu"}
    assert all(call.attributes.keys() <= {"region", "run_name", "tags"} for call in found)
    (streamed,) = (call for call in found if call.stream)
    assert streamed.ttft_ms == pytest.approx(404.894)
    assert (streamed.input_tokens, streamed.model_version) == (None, "gpt-4o-2024-08-06")
    refused = next(call for call in chains if call.refused and call.model == "gpt-4o")
    assert refused.prompt_text == "You are a support bot.\nREFUSE this"
    assert refused.response_text == "I'm sorry, I can't help with that."


def test_api_and_parquet_rows_say_the_same() -> None:
    """Bulk export rows have JSON inside text and times without a zone."""
    api, bulk = calls("runs_api.jsonl"), calls("bulk_export.jsonl")
    assert len(api) == 15
    assert api == bulk


def test_the_newer_api_spells_run_types_in_capitals() -> None:
    new = {call.interaction_id: call for call in calls("runs_api_v2.jsonl")}
    old = {call.interaction_id: call for call in calls("runs_api.jsonl")}
    assert len(new) == 5
    for key, call in new.items():
        assert call.model_dump(exclude={"params_sha256"}) == old[key].model_dump(exclude={"params_sha256"})


def test_server_counts_and_cost() -> None:
    call = read(RUN)
    assert (call.input_tokens, call.output_tokens, call.cached_input_tokens, call.reasoning_tokens) == (14, 8, 4, 2)
    assert call.cost_usd == 0.000115


def test_zero_tokens_in_and_out_are_unknown() -> None:
    bare = changed(
        RUN,
        prompt_tokens=0,
        completion_tokens=0,
        total_cost="0",
        outputs={},
        extra={"metadata": {"ls_model_name": "m"}},
    )
    call = read(bare)
    assert (call.input_tokens, call.output_tokens, call.cost_usd) == (None, None, None)
    assert read(changed(bare, prompt_tokens=3, total_cost="0")).cost_usd == 0


@pytest.mark.parametrize("kind", ["chain", "tool", "retriever", "prompt", "parser", "CHAIN", "something new"])
def test_other_runs_are_ignored(kind: str) -> None:
    assert read(changed(RUN, run_type=kind)) == Ignored()


def test_a_run_without_an_end_is_not_over() -> None:
    assert read(changed(RUN, end_time=None, status="pending")) == Ignored()
    assert read(changed(RUN, end_time="", status="pending")) == Ignored()
    failed = read(changed(RUN, end_time=None, error="Boom('x')"))
    assert (failed.is_error, failed.error_type, failed.latency_ms) == (True, "Boom", None)


def test_status_alone_makes_an_error() -> None:
    call = read(changed(RUN, status="error", error=None))
    assert (call.is_error, call.error_type, call.refused) == (True, "unknown", None)


def test_where_experiment_variant_unit_and_prompt_version_may_be() -> None:
    base = changed(RUN, tags=[], extra={"metadata": {"ls_model_name": "m"}})
    expected = ("e", "b", "u", "v3")
    spellings = [
        {"experiment": "e", "variant": "b", "unit_id": "u", "prompt_version": "v3"},
        {"abtest.experiment": "e", "abtest.variant": "b", "abtest.unit_id": "u", "abtest.prompt_version": "v3"},
        {"abtest": {"experiment": "e", "variant": "b", "unitId": "u", "promptVersion": "v3"}},
        {"experimentId": "e", "variant": "b", "userId": "u", "promptVersion": "v3"},
        {"abtest_experiment": "e", "abtest_variant": "b", "abtest_unit_id": "u", "abtest_prompt_version": "v3"},
    ]
    for metadata in spellings:
        call = read(changed(base, extra={"metadata": {"ls_model_name": "m", **metadata}}))
        assert (call.experiment_id, call.variant, call.unit_id, call.prompt_version) == expected, metadata
        assert call.attributes == {"run_name": RUN["name"]}
    call = read(
        changed(base, tags=["experiment:e", "variant: b", "abtest.unit_id:u", "prompt_version=v3", "seq:step:2"])
    )
    assert (call.experiment_id, call.variant, call.unit_id, call.prompt_version) == expected
    call = read(changed(base, extra={"metadata": {"ls_model_name": "m", "variant": "x", "abtest.variant": "b"}}))
    assert call.variant == "b"


def test_feedback_of_the_sdk() -> None:
    found = [items(value)[0] for value in objects("feedback.jsonl")]
    assert [type(item).__name__ for item in found].count("Ignored") == 1  # the project's, which names no run
    scores = {score.name: score for score in found if isinstance(score, Score)}
    assert (scores["category"].label, scores["category"].scorer_kind) == ("good", "judge")
    assert (scores["corrected"].value, scores["corrected"].explanation) == (0, "no")
    assert scores["thumbs"].value == 1
    assert scores["pref"].scorer_id == "comparative@22222222-2222-2222-2222-222222222222"
    root = scores["helpfulness"]  # no trace: its run is the root
    assert root.trace_id == root.span_id == "2234542b-c3fd-4db0-932f-de57151bd18e"
    assert (root.scorer_kind, root.scorer_id, root.interaction_id) == ("judge", "gpt-4o-mini", None)
    assert str(root.updated_at) == "2026-11-23 02:17:48.838230+00:00"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"value": 0.5, "label": None, "scorer_kind": "human", "scorer_id": "anna"}),
        ({"score": True}, {"value": 1.0}),
        ({"score": None, "value": False}, {"value": 0.0}),
        ({"score": None, "value": "good"}, {"value": None, "label": "good"}),
        ({"score": 1, "value": "good"}, {"value": 1.0, "label": "good"}),
        ({"score": None, "value": {"b": 1, "a": [2]}}, {"label": '{"a": [2], "b": 1}'}),
        ({"score": None, "value": 3}, {"value": 3.0}),
        ({"score": "0.25"}, {"value": 0.25}),
        ({"score": None, "error": True, "comment": "judge failed"}, {"value": None, "error_type": "evaluator_error"}),
        ({"score": None, "extra": {"error": True}}, {"error_type": "evaluator_error"}),
        ({"feedback_source": {"type": "model"}}, {"scorer_kind": "judge"}),
        ({"feedback_source": {"type": "auto_eval"}}, {"scorer_kind": "judge"}),
        ({"feedback_source": {"type": "api"}, "key": "user_score"}, {"scorer_kind": "user"}),
        ({"feedback_source": {"type": "api", "metadata": {"scorer_kind": "human"}}}, {"scorer_kind": "human"}),
        ({"feedback_source": None}, {"scorer_kind": "code", "scorer_id": None}),
        ({"trace_id": None}, {"trace_id": "r1", "span_id": "r1"}),
        ({"run_id": None}, {"trace_id": "t1", "span_id": None}),
    ],
)
def test_feedback(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    score = read(changed(FEEDBACK, **fields))
    assert isinstance(score, Score)
    assert {name: getattr(score, name) for name in expected} == expected


def test_a_correction_keeps_the_id_and_tells_when() -> None:
    later = read(changed(FEEDBACK, score=1, modified_at="2026-11-23T07:00:00+00:00"))
    assert (later.score_id, str(later.updated_at), later.value) == ("f1", "2026-11-23 07:00:00+00:00", 1)
    assert read(changed(FEEDBACK, modified_at=FEEDBACK["created_at"])).updated_at is None


@pytest.mark.parametrize(
    "fields",
    [
        {"run_id": None, "trace_id": None},
        {"score": None, "comment": "only a note"},
        {"score": None, "correction": {"output": "better"}},
        {"score": None, "value": {}},
    ],
)
def test_feedback_that_judges_no_call_is_ignored(fields: dict[str, Any]) -> None:
    assert read(changed(FEEDBACK, **fields)) == Ignored()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (changed(RUN, id=None), "missing: interaction_id (id)"),
        (changed(RUN, start_time=None), "missing: ts (start_time or created_at)"),
        (changed(RUN, start_time="yesterday"), "bad_value: start_time: an ISO 8601 time is needed"),
        (changed(RUN, start_time="2026-13-01T00:00:00"), "bad_value: start_time: month must be in 1..12"),
        (changed(RUN, start_time=1795398993047), "bad_value: start_time: an ISO 8601 time is needed"),
        (changed(RUN, end_time=[]), "bad_value: end_time: an ISO 8601 time is needed"),
        (changed(RUN, run_type=7), "bad_value: run_type: text is needed"),
        (changed(RUN, prompt_tokens=-1), "bad_value: input_tokens: Input should be greater than or equal to 0"),
        (changed(RUN, prompt_tokens=2**70), "bad_value: input_tokens: "),
        (changed(RUN, completion_tokens="many"), "bad_value: output_tokens: Input should be a valid integer"),
        (changed(RUN, completion_tokens=1.5), "bad_value: output_tokens: "),
        (changed(RUN, total_cost="free"), "bad_value: cost_usd: Input should be a valid number"),
        (changed(RUN, total_cost=-1), "bad_value: cost_usd: Input should be greater than or equal to 0"),
        (changed(RUN, outputs={}, inputs={}, extra={}), "missing: model (extra.metadata.ls_model_name)"),
        (changed(FEEDBACK, score="high"), "bad_value: value: Input should be a valid number"),
        (changed(FEEDBACK, key=""), "missing: name (key)"),
        (changed(FEEDBACK, created_at=None), "missing: ts (start_time or created_at)"),
        ({"id": "x", "trace_id": "t", "dotted_order": "d", "end_time": "e"}, "missing: run_type (a patch whose post"),
        ({"a": 1}, "not_langsmith: its keys are a"),
    ],
)
def test_reasons(value: dict[str, Any], reason: str) -> None:
    item = read(value)
    assert isinstance(item, Reject)
    assert item.reason.startswith(reason)


def test_a_bad_run_of_a_batch_is_rejected_alone() -> None:
    good, bad = changed(RUN, id="good"), changed(RUN, id="bad", prompt_tokens=-1)
    found = items({"post": [bad, good, 5], "patch": []})
    assert [type(item).__name__ for item in found] == ["Reject", "LoggedInteraction", "Reject"]
    assert json.loads(found[0].raw)["id"] == "bad"
    assert items({"post": [], "patch": []}) == [Ignored()]


def test_detection() -> None:
    for name in FILES:
        assert detect(objects(name), file=name) is FORMAT
    assert FORMAT.sniff([{"run_type": "llm"}]) == 0
    assert FORMAT.sniff([{"id": 1, "key": "x"}]) == 0


NUMBERS = [None, True, -1, 1.5, 2**70, -(2**70), 1e308, "nan", "9" * 30]
TEXTS = ["", "x" * 5000, "'; DROP TABLE interaction; --", "<script>", "\u0000", "{", '"', "[1,2", "2026-01-01"]
TREES = [[], {}, [[[[]]]], {"a": {"b": {"c": 1}}}, [None], [1, "a"]]
HOSTILE = st.sampled_from([*NUMBERS, *TEXTS, *TREES])
GENUINE = [*objects("sdk_batches.jsonl"), *objects("langchain_runs.jsonl"), *API, *objects("feedback.jsonl")]


@given(st.data())
def test_a_hostile_value_anywhere_never_raises(data: st.DataObject) -> None:
    root: Any = deepcopy(data.draw(st.sampled_from(GENUINE)))
    node, key = [root], 0
    while isinstance(node[key], (dict, list)) and node[key] and data.draw(st.integers(0, 5)):
        node = node[key]
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
    node[key] = data.draw(HOSTILE)
    found = FORMAT.read(json.dumps(root).encode(), 3, 9)
    assert all(isinstance(item, (Interaction, Score, Reject, Ignored)) for item in found)


@given(value=st.one_of(st.integers(max_value=-1), st.integers(min_value=2**63), st.text(alphabet="abc", min_size=1)))
def test_counts_out_of_range_are_rejected_not_nulled(value: object) -> None:
    for name in ("prompt_tokens", "completion_tokens"):
        assert isinstance(read(changed(RUN, **{name: value})), Reject)


def test_a_key_that_comes_twice_and_a_megabyte_of_text() -> None:
    line = json.dumps(RUN).encode()
    assert len(FORMAT.read(line[:-1] + b',"id":"again"}', 1, 0)) == 1
    call = read(changed(RUN, inputs={"messages": [{"role": "user", "content": "x" * 1_000_000}]}))
    assert len(call.prompt_text) == 1_000_000


def test_in_the_store(con: Any, write: Any) -> None:
    """Two uploads of one program, then feedback on the root of a trace with one llm run."""
    lines = [text for body in WIRE for text in multipart_to_texts(body) or []]
    report = load(con, [write(*lines, name="runs.jsonl")], source="langsmith")
    assert (report.inserted, report.ignored, report.conflicts, report.quarantined) == (3, 5, 0, 0)
    feedback = next(value for value in objects("feedback.jsonl") if value["id"].startswith("01a20631"))
    load(con, [write(feedback, name="feedback.jsonl")], source="langsmith")
    assert (
        con.execute("SELECT interaction_id FROM score_target").fetchall()[0][0]
        == "01a20631-fbe9-7e7c-b4a1-738491354e5d"
    )
