"""Langfuse: export rows in every container's spelling, the SDK's scores, seconds and milliseconds."""

from __future__ import annotations

import csv
import io
import json
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.ingest import Ignored, Reject, detect, get
from abtest.records import Interaction, Score
from abtest.store.load import load

FIXTURES = Path(__file__).parent / "fixtures"
FILES = {file.name: file for folder in ("langfuse", "langfuse_same") for file in (FIXTURES / folder).glob("*.jsonl")}
FORMAT = get("langfuse")


def objects(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILES[name].read_bytes().splitlines()]


def items(value: dict[str, Any]) -> list[Any]:
    return list(FORMAT.read(json.dumps(value).encode(), 1, 0))


def read(value: dict[str, Any]) -> Any:
    (item,) = items(value)
    return item


def changed(value: dict[str, Any], /, **fields: Any) -> dict[str, Any]:
    return {**deepcopy(value), **fields}


def milliseconds(row: dict[str, Any], first: str, last: str) -> float | None:
    """The duration, computed apart from the code under test."""
    if not row[first] or not row[last]:
        return None
    start, end = (datetime.strptime(row[key], "%Y-%m-%d %H:%M:%S.%f").timestamp() for key in (first, last))
    return round((end - start) * 1000, 3)


ROWS = objects("observations_v2.jsonl")
CALL = next(row for row in ROWS if row["type"] == "GENERATION")
SCORE = objects("scores.jsonl")[0]
CALLS: dict[str, Interaction] = {item.interaction_id: item for item in map(read, ROWS) if isinstance(item, Interaction)}


def test_model_calls_that_are_over_are_taken_and_no_others() -> None:
    over = [row for row in ROWS if row["type"] in ("GENERATION", "EMBEDDING") and row["end_time"]]
    assert [*CALLS] == [row["id"] for row in over]
    assert len(over) == 13
    assert [read(row) for row in ROWS if row not in over] == [Ignored()] * 10


def test_columns() -> None:
    for row in ROWS:
        if row["id"] not in CALLS:
            continue
        call = CALLS[row["id"]]
        assert (call.interaction_id, call.span_id, call.trace_id) == (row["id"], row["id"], row["trace_id"])
        assert (call.unit_id, call.session_id) == (row["user_id"], row["session_id"])
        assert (call.experiment_id, call.variant) == (row["metadata"]["experiment"], row["metadata"]["variant"])
        assert call.model == row["provided_model_name"]
        assert call.ts.strftime("%Y-%m-%d %H:%M:%S.%f%z") == row["start_time"] + "+0000"
        assert call.latency_ms == milliseconds(row, "start_time", "end_time")
        assert call.ttft_ms == milliseconds(row, "start_time", "completion_start_time")
        assert call.stream == (True if row["completion_start_time"] else None)
        assert call.is_error == (row["level"] == "ERROR")


def test_one_call_in_full() -> None:
    call = CALLS[CALL["id"]]
    assert (call.operation, call.environment, call.surface) == ("chat", "default", "support")
    assert (call.input_tokens, call.cached_input_tokens, call.output_tokens, call.reasoning_tokens) == (14, 4, 8, 2)
    assert call.cost_usd == 0.000115
    assert (call.prompt_text, call.response_text) == ("Capital?", "Paris is the capital of France.")
    assert call.refused is None  # Langfuse's OpenAI wrapper loses refusals
    assert call.attributes == {"observation_name": "OpenAI-generation", "tags": ["team-a"]}
    assert call.params_sha256 is not None


def test_error() -> None:
    (call,) = (call for call in CALLS.values() if call.unit_id == "u3")
    assert (call.error_type, call.http_status, call.refused, call.input_tokens) == ("429", 429, None, None)
    assert (
        read(changed(CALL, level="ERROR", status_message="openai.RateLimitError: slow")).error_type
        == "openai.RateLimitError"
    )
    assert read(changed(CALL, level="ERROR", status_message="")).error_type == "unknown"
    assert read(changed(CALL, level="WARNING", status_message="slow")).is_error is False


def test_langfuses_own_calls_are_no_answers() -> None:
    (judge,) = (call for call in CALLS.values() if call.environment == "langfuse-llm-as-a-judge")
    assert judge.operation == "evaluation"


def test_embedding() -> None:
    (call,) = (call for call in CALLS.values() if call.operation == "embeddings")
    assert (call.embedding_model_version, call.input_tokens) == ("text-embedding-3-small", 5)
    assert (call.prompt_text, call.response_text, call.refused) == (None, None, None)


def test_milliseconds_of_older_integrations_change_nothing() -> None:
    old = objects("observations_v2_milliseconds.jsonl")
    assert old[0]["latency"] == pytest.approx(ROWS[0]["latency"] * 1000)
    assert [read(row) for row in old] == [read(row) for row in ROWS]


@pytest.mark.parametrize(
    ("latency", "first", "expected"),
    [
        (2.0, 0.5, 500),  # seconds: 2 s are the 2,000 ms between the times
        (2000, 500, 500),  # milliseconds, by the same proof
        (None, 0.5, 500),  # no proof: seconds
        (None, "0.5", 500),
        (2.0, None, None),
        (2000, "", None),
    ],
)
def test_the_unit_of_a_first_token_without_its_time(latency: Any, first: Any, expected: Any) -> None:
    times = {"start_time": "2026-11-01 10:00:00.000000", "end_time": "2026-11-01 10:00:02.000000"}
    call = read(changed(CALL, **times, completion_start_time=None, latency=latency, time_to_first_token=first))
    assert (call.latency_ms, call.ttft_ms) == (2000, expected)


def test_latency_without_an_end_is_seconds() -> None:
    assert read(changed(CALL, end_time=None, latency=1.25)).latency_ms == 1250
    assert read(changed(CALL, end_time=None, latency=None)).latency_ms is None


def test_times_that_cross_are_unknown() -> None:
    assert read(changed(CALL, end_time="2020-01-01 00:00:00.000000")).latency_ms is None


def test_a_row_that_still_runs_is_ignored_and_comes_again() -> None:
    running = changed(CALL, end_time=None, latency=None, output="", usage_details={}, cost_details={}, total_cost=0)
    assert read(running) == Ignored()
    assert read(changed(running, usage_details={"input": 14})) == Ignored()
    assert isinstance(read(changed(running, output="Paris")), Interaction)
    assert isinstance(read(changed(running, usage_details={"input": 14, "output": 8})), Interaction)
    assert isinstance(read(changed(running, level="ERROR")), Interaction)


def test_the_same_row_exported_again_is_the_same_record() -> None:
    later = changed(CALL, updated_at="2027-01-01 00:00:00.000000", created_at="2027-01-01 00:00:00.000000")
    assert read(changed(later, bookmarked=True, public=True, usage_pricing_tier_name="Other")) == CALLS[CALL["id"]]


def as_csv(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Write and read a CSV file as Langfuse does: null is empty, objects and arrays are JSON."""

    def cell(value: Any) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        return json.dumps(value)

    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows([{key: cell(value) for key, value in row.items()} for row in rows])
    return list(csv.DictReader(io.StringIO(file.getvalue())))


@pytest.mark.parametrize("name", ["observations_v2.jsonl", "observations.jsonl", "scores.jsonl", "traces.jsonl"])
def test_csv_says_the_same(name: str) -> None:
    rows = objects(name)
    assert [read(row) for row in as_csv(rows)] == [read(row) for row in rows]
    assert detect(as_csv(rows), file="x.csv") is FORMAT


@pytest.mark.parametrize("style", ["entries", "couples"])
def test_parquet_maps_as_lists_say_the_same(style: str) -> None:
    def cell(value: Any) -> Any:
        if not isinstance(value, dict) or not value:
            return value
        return [{"key": k, "value": v} if style == "entries" else [k, v] for k, v in value.items()]

    rows = [{key: cell(value) for key, value in row.items()} for row in ROWS]
    assert [read(row) for row in rows] == [read(row) for row in ROWS]


def test_a_page_of_the_public_api() -> None:
    (page,) = objects("api_page.jsonl")
    found = items(page)
    assert [isinstance(item, Interaction) for item in found] == [row["type"] == "GENERATION" for row in page["data"]]
    for call in (item for item in found if isinstance(item, Interaction)):
        export = CALLS[call.interaction_id]
        different = {"ts", "latency_ms", "ttft_ms"}  # the API cuts times to milliseconds
        assert call.model_dump(exclude=different) == export.model_dump(exclude=different)
        assert call.latency_ms == pytest.approx(export.latency_ms, abs=1)


def test_legacy_rows_know_no_user_and_no_session() -> None:
    legacy = [item for item in map(read, objects("observations.jsonl")) if isinstance(item, Interaction)]
    assert len(legacy) == 3
    for call in legacy:
        assert (call.unit_id, call.session_id, call.surface, call.variant) == (None, None, None, None)
        assert call.latency_ms == CALLS[call.interaction_id].latency_ms
        assert call.prompt_version == "v6"


def test_prompt_versions_in_order_of_trust() -> None:
    base = changed(CALL, metadata={}, version="app-3", prompt_name="support", prompt_version=7)
    assert (read(base).prompt_name, read(base).prompt_version) == ("support", "7")
    assert read(changed(base, prompt_version=None)).prompt_version == "app-3"
    assert read(changed(base, metadata={"prompt_version": "v9"})).prompt_version == "v9"


@pytest.mark.parametrize(
    "metadata",
    [
        {"experiment": "e", "variant": "b", "unit_id": "u"},
        {"abtest.experiment": "e", "abtest.variant": "b", "abtest.unit_id": "u"},
        {"experiment": '"e"', "variant": '"b"', "unit_id": '"u"'},  # encoded twice
        {"attributes.abtest.experiment": "e", "attributes.abtest.variant": "b", "attributes.abtest.unit_id": "u"},
        {"attributes": '{"abtest.experiment":"e","abtest.variant":"b","abtest.unit_id":"u"}'},
        {"attributes": {"langfuse.trace.metadata.experiment": "e", "abtest.variant": "b", "abtest.unit_id": "u"}},
        {"feature_flag.key": "e", "feature_flag.result.variant": "b", "feature_flag.context.id": "u"},
    ],
)
def test_where_experiment_variant_and_unit_may_be(metadata: dict[str, Any]) -> None:
    call = read(changed(CALL, user_id="", tags=["plain"], metadata=metadata))
    assert (call.experiment_id, call.variant, call.unit_id) == ("e", "b", "u")
    assert call.attributes == {"observation_name": "OpenAI-generation", "tags": ["plain"]}


def test_tags_count_where_metadata_says_nothing() -> None:
    call = read(changed(CALL, metadata={"tier": "gold", "n": 3}, tags='["exp:e","variant:b","team-a"]'))
    assert (call.experiment_id, call.variant, call.unit_id) == ("e", "b", "u1")
    assert call.attributes == {"observation_name": "OpenAI-generation", "tags": ["team-a"], "tier": "gold", "n": 3}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"input": 10, "input_cached_tokens": 4, "output": 6, "output_reasoning_tokens": 2, "total": 22},
            (14, 8, 4, 2),
        ),
        ({"input": 14, "output": 8, "total": 22}, (14, 8, None, None)),
        ({"input": 14, "output": 8, "input_cached_tokens": 4, "total": 22}, (14, 8, 4, None)),  # details inside
        ({"input": 10, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3, "output": 8}, (17, 8, 4, None)),
        ({"prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22}, (14, 8, None, None)),
        ('{"input":"14","output":"8"}', (14, 8, None, None)),
        ({"total": 22}, (None, None, None, None)),
        ({}, (None, None, None, None)),
        ("", (None, None, None, None)),
        ({"input": 0, "output": 8}, (0, 8, None, None)),
    ],
)
def test_token_categories_are_disjoint_and_added_up(usage: Any, expected: tuple[Any, ...]) -> None:
    call = read(changed(CALL, usage_details=usage))
    assert (call.input_tokens, call.output_tokens, call.cached_input_tokens, call.reasoning_tokens) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"total_cost": 0, "cost_details": {}}, None),
        ({"total_cost": "0", "cost_details": "{}"}, None),
        ({"total_cost": 0, "cost_details": {"input": 0, "total": 0}}, 0),
        ({"total_cost": "0.000115"}, 0.000115),
        ({"total_cost": None, "cost_details": {"total": 0.5}}, 0.5),
        ({"total_cost": "", "cost_details": ""}, None),
    ],
)
def test_cost(fields: dict[str, Any], expected: float | None) -> None:
    assert read(changed(CALL, **fields)).cost_usd == expected


@pytest.mark.parametrize(
    ("output", "refused", "reason", "text"),
    [
        ('{"role":"assistant","content":null}', None, None, ""),
        ('{"role":"assistant","content":null,"refusal":"I cannot."}', True, None, "I cannot."),
        ('{"role":"assistant","content":"Yes.","refusal":null}', False, None, "Yes."),
        ('{"choices":[{"finish_reason":"length","message":{"content":"Ye","refusal":null}}]}', False, "length", "Ye"),
        ('{"type":"message","content":[],"stop_reason":"refusal"}', True, "refusal", ""),
        ('{"type":"message","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn"}', False, "stop", "Hi"),
        ("plain text", None, None, "plain text"),
        ('{"city":"Paris"}', None, None, '{"city":"Paris"}'),
        ("[1] Paris", None, None, "[1] Paris"),
        ([{"role": "assistant", "content": "Yes."}], None, None, "Yes."),
        ("", None, None, None),
        (None, None, None, None),
    ],
)
def test_outputs(output: Any, refused: bool | None, reason: str | None, text: str | None) -> None:
    call = read(changed(CALL, output=output))
    assert (call.refused, call.finish_reason, call.response_text) == (refused, reason, text)


def test_scores_of_the_export() -> None:
    found = [read(row) for row in objects("scores.jsonl")]
    numeric, user, category, text, corrected = found[:5]
    assert found[5:] == [Ignored(), Ignored()]  # of a session, of a dataset run
    assert (numeric.value, numeric.scorer_kind, numeric.updated_at) == (0.8, "code", None)
    assert (numeric.trace_id, numeric.span_id, numeric.interaction_id) == (ROWS[0]["trace_id"], ROWS[0]["id"], None)
    assert (user.value, user.label, user.scorer_kind, user.span_id) == (1.0, None, "user", None)
    assert (category.value, category.label, category.scorer_kind) == (None, "partly", "judge")
    assert category.explanation == "misses the date"
    assert (text.value, text.label, text.scorer_kind) == (None, "Too long.", "human")
    assert str(corrected.updated_at) == "2026-11-23 08:30:00+00:00"


def test_scores_of_the_sdk() -> None:
    raw = objects("sdk5_scores.jsonl")
    found = [read(row) for row in raw]
    of_a_call = [row for row in raw if "traceId" in row and row.get("dataType") != "CORRECTION"]
    assert [item.score_id for item in found if isinstance(item, Score)] == [row["id"] for row in of_a_call]
    assert found.count(Ignored()) == len(raw) - len(of_a_call) == 3
    for row, score in zip(raw, found, strict=True):
        if isinstance(score, Ignored):
            continue
        words = isinstance(row["value"], str)
        assert (score.value, score.label) == ((None, row["value"]) if words else (row["value"], None))
        assert (score.trace_id, score.span_id) == (row["traceId"], row.get("observationId"))
    kinds = {score.name: score.scorer_kind for score in found if isinstance(score, Score) and score.score_id != "s-1"}
    assert (kinds["user_feedback"], kinds["helpfulness"]) == ("user", "code")
    assert next(s for s in found if isinstance(s, Score) and s.score_id == "s-1").scorer_kind == "judge"


def test_a_score_of_an_observation_without_its_trace() -> None:
    score = read(changed(SCORE, trace_id=None, observation_id="o1"))
    assert (score.interaction_id, score.trace_id, score.span_id) == ("o1", None, None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (changed(CALL, id=""), "missing: interaction_id (id)"),
        (changed(CALL, id=7), "missing: interaction_id (id)"),
        (changed(CALL, start_time=""), "missing: ts (start_time or timestamp)"),
        (changed(CALL, start_time="soon"), "bad_value: start_time: an ISO 8601 time is needed"),
        (changed(CALL, end_time="2026-11-31 00:00:00"), "bad_value: end_time: day is out of range"),
        (changed(CALL, start_time="0001-01-01 00:00:00+14:00"), "bad_value: start_time: "),
        (changed(CALL, type=3), "bad_value: type: text is needed"),
        (changed(CALL, provided_model_name=""), "missing: model (provided_model_name)"),
        (changed(CALL, usage_details={"input": -1}), "bad_value: input_tokens: "),
        (changed(CALL, usage_details={"output": "many"}), "bad_value: input_tokens: "),
        (changed(CALL, usage_details={"input": 2**70}), "bad_value: input_tokens: "),
        (changed(CALL, usage_details={"input": 1.5}), "bad_value: input_tokens: "),
        (changed(CALL, total_cost="free"), "bad_value: cost_usd: Input should be a valid number"),
        (changed(CALL, total_cost=-1), "bad_value: cost_usd: "),
        (changed(CALL, end_time="", latency="fast"), "bad_value: latency_ms: "),
        (changed(CALL, end_time="", latency=-1), "bad_value: latency_ms: "),
        (changed(SCORE, value="high"), "bad_value: value: Input should be a valid number"),
        (changed(SCORE, value=None), "bad_value: a score needs value, label or error_type"),
        (changed(SCORE, timestamp=None), "missing: ts (start_time or timestamp)"),
        (changed(SCORE, id=None), "missing: score_id (id)"),
        ({"id": "x", "name": "y"}, "not_langfuse: its keys are id, name"),
    ],
)
def test_reasons(value: dict[str, Any], reason: str) -> None:
    item = read(value)
    assert isinstance(item, Reject)
    assert item.reason.startswith(reason)


@pytest.mark.parametrize("kind", ["SPAN", "EVENT", "TOOL", "AGENT", "EVALUATOR", "span", "SOMETHING_NEW"])
def test_other_observations_are_ignored(kind: str) -> None:
    assert read(changed(CALL, type=kind)) == Ignored()


def test_detection() -> None:
    for name in FILES:
        assert detect(objects(name), file=name) is FORMAT
    core = {"id", "trace_id", "start_time", "end_time", "project_id", "parent_observation_id", "type"}
    assert FORMAT.sniff([{key: CALL[key] for key in core}]) == 0.95
    assert FORMAT.sniff([{"id": "x", "name": "n", "value": 1}]) == 0


NUMBERS = [None, True, -1, 1.5, 2**70, -(2**70), 1e308, "nan", "9" * 30]
TEXTS = ["", "x" * 5000, "'; DROP TABLE interaction; --", "<script>", "\u0000", "{", '"', "[1,2", "2026-01-01"]
TREES = [[], {}, [[[[]]]], {"a": {"b": {"c": 1}}}, [None], [1, "a"]]
GENUINE = [*ROWS, *objects("observations.jsonl"), *objects("scores.jsonl"), *objects("sdk5_scores.jsonl")]


@given(st.data())
def test_a_hostile_value_anywhere_never_raises(data: st.DataObject) -> None:
    root: Any = deepcopy(data.draw(st.sampled_from([*GENUINE, *objects("api_page.jsonl")])))
    node, key = [root], 0
    while isinstance(node[key], (dict, list)) and node[key] and data.draw(st.integers(0, 5)):
        node = node[key]
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
    node[key] = data.draw(st.sampled_from([*NUMBERS, *TEXTS, *TREES]))
    for item in FORMAT.read(json.dumps(root).encode(), 3, 9):
        assert isinstance(item, (Interaction, Score, Reject, Ignored))


@given(value=st.one_of(st.integers(max_value=-1), st.integers(min_value=2**63), st.text(alphabet="abc", min_size=1)))
def test_counts_out_of_range_are_rejected_not_nulled(value: object) -> None:
    for name in ("input", "output"):
        assert isinstance(read(changed(CALL, usage_details={name: value})), Reject)


def test_a_key_that_comes_twice_and_a_megabyte_of_text() -> None:
    line = json.dumps(CALL).encode()
    assert len(FORMAT.read(line[:-1] + b',"id":"again"}', 1, 0)) == 1
    assert len(read(changed(CALL, output="x" * 1_000_000)).response_text) == 1_000_000
    many = {f"key{i}": "v" * 300 for i in range(5000)}
    assert read(changed(CALL, metadata=many)).attributes == {
        "observation_name": "OpenAI-generation",
        "tags": ["team-a"],
    }


def test_in_the_store(con: Any, write: Any) -> None:
    """Exported while it runs, exported when done, exported again; a score, its correction, a score on the wrapper."""
    running = changed(CALL, end_time=None, latency=None, output="", usage_details={}, cost_details={}, total_cost=0)
    again = changed(CALL, updated_at="2027-01-01 00:00:00.000000")
    reports = [
        load(con, [write(row, name=f"{day}.jsonl")], source="langfuse")
        for day, row in enumerate((running, CALL, again))
    ]
    assert [(r.ignored, r.inserted, r.duplicates, r.conflicts) for r in reports] == [
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 0),
    ]
    target = {"trace_id": CALL["trace_id"], "observation_id": CALL["id"]}
    score = changed(SCORE, id="exact", **target)
    corrected = changed(score, value=0.1, updated_at="2026-11-24 00:00:00.000000")
    wrapper = changed(SCORE, id="wrapper", **{**target, "observation_id": CALL["parent_observation_id"]})
    report = load(con, [write(score, corrected, wrapper, name="scores.jsonl")], source="langfuse")
    assert (report.inserted, report.conflicts, report.quarantined) == (3, 0, 0)
    found = con.execute("SELECT score_id, interaction_id FROM score_target ORDER BY score_id").fetchall()
    assert [tuple(row[:2]) for row in found] == [("exact", CALL["id"]), ("wrapper", CALL["id"])]
