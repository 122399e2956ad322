"""`--map`: paths, fields, rules, presets; and that every mistake is named."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.errors import AbtestError, SpecError, UnknownNameError
from abtest.ingest import Ignored, Reject, detect, formats, get
from abtest.ingest.jsonpath import JsonPath, compile_path
from abtest.ingest.mapped import load_map, presets
from abtest.ingest.mapped_spec import NAMES, read_spec
from abtest.records import Assignment, Interaction, Score

BASE = 'interaction_id = "$.id"\nts = "$.at"\nmodel = "$.model"\n'
ASSIGNMENT = '[assignment]\nexperiment_id = "$.e"\nunit_id = "$.u"\nvariant = "$.v"\nts = "$.t"\n'
CALL = {"id": "i1", "at": "2026-11-20T10:00:00Z", "model": "m"}
ENVOY = [
    {
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.model_override": None,
        "gen_ai.provider.name": "openai-backend",
        "gen_ai.usage.total_tokens": 22,
        "gen_ai.usage.input_tokens": 14,
        "gen_ai.usage.output_tokens": 8,
        "start_time": "2026-11-23T02:00:00.123Z",
        "method": "POST",
        "x-envoy-origin-path": "/v1/chat/completions",
        "protocol": "HTTP/1.1",
        "response_code": 200,
        "response_flags": "-",
        "response_code_details": "via_upstream",
        "duration": 412,
        "x-envoy-upstream-service-time": "401",
        "x-request-id": "7d2a0f0e-0000-4000-8000-000000000001",
        "route_name": "httproute/default/aigw/rule/0",
    },
    {
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.model_override": None,
        "gen_ai.provider.name": None,
        "gen_ai.usage.input_tokens": None,
        "gen_ai.usage.output_tokens": None,
        "start_time": "2026-11-23T02:00:01.123Z",
        "x-envoy-origin-path": "/v1/chat/completions",
        "response_code": 503,
        "response_flags": "UF",
        "response_code_details": "upstream_reset_before_response_started",
        "duration": 2,
        "x-request-id": "7d2a0f0e-0000-4000-8000-000000000002",
        "route_name": "httproute/default/aigw/rule/0",
    },
]
"""From the documented access-log format of the gateway."""


@pytest.fixture
def reader(tmp_path: Path) -> Callable[..., Callable[[Any], list[Any]]]:
    """Write a map, return a function that reads a record by it."""

    def make(text: str) -> Callable[[Any], list[Any]]:
        path = tmp_path / "our map.toml"
        path.write_text(text, encoding="utf-8")
        fmt = load_map(path)
        return lambda body: list(fmt.read(json.dumps(body).encode(), 4, 9))

    return make


def mistake(tmp_path: Path, text: str | bytes) -> AbtestError:
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SpecError) as caught:
        load_map(path)
    assert caught.value.file == str(path)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.a.b", 1),
        ("$['a']['b']", 1),
        ('$["x.y"]', 2),
        ("$.x-z", 3),
        ("$.list[0].k", 4),
        ("$.list[-1].k", 5),
        ("$.list[7].k", None),
        ("$.list[-7]", None),
        ("$.a.b.c", None),
        ("$.missing", None),
        ("$.text.inner[1]", 7),
        (r"$['it\'s']", 8),
        ("$.été", 9),
        ("$.null", None),
        ("$.list.k", None),
        ("$.a[0]", None),
    ],
)
def test_paths(path: str, value: Any) -> None:
    body = {
        "a": {"b": 1},
        "x.y": 2,
        "x-z": 3,
        "list": [{"k": 4}, {"k": 5}],
        "text": '{"inner": [6, 7]}',
        "it's": 8,
        "été": 9,
        "null": None,
    }
    compiled = compile_path(path)
    assert isinstance(compiled, JsonPath)
    assert compiled.find(body) == value


@pytest.mark.parametrize(
    "text",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://x",
        "http://x/y",
        "",
        "a.b",
        "$",
        "$.",
        "$..a",
        "$.a[*]",
        "$.a[?(@.b)]",
        "$.a[",
        "$['a",
        "$.a b",
        "$.a[1:2]",
        "@.a",
        "$.a.*.b",
        "${HOME}",
        "$(ls)",
        "$.a[12345678]",
    ],
)
def test_what_is_no_path(text: str, tmp_path: Path) -> None:
    assert isinstance(compile_path(text), str)
    error = mistake(tmp_path, BASE + f"unit_id = {json.dumps(text)}\n")
    assert error.key == "unit_id"
    assert "JSON path" in f"{error.message} {error.hint}"
    assert "$.user.id" in str(error.hint)


@given(text=st.text(max_size=40))
def test_any_text_is_a_path_or_is_refused(text: str) -> None:
    for each in (text, f"${text}", f"$.{text}", f"$['{text}']"):
        compiled = compile_path(each)
        assert isinstance(compiled, str) or compiled.find({"a": [1]}) in (None, [1], {}, 1, {"a": [1]})


def test_units_times_and_defaults(reader: Callable[..., Any]) -> None:
    read = reader(
        """
        interaction_id = { path = ["$.trace", "$.span"], join = ":" }
        ts = { path = "$.ms", from = "epoch_ms" }
        model = ["$.model.name", "$.model_name"]
        unit_id = "$.user.id"
        latency_ms = { path = "$.duration_s", scale = 1000 }
        input_tokens = "$.tokens.in"
        refused = { path = "$.verdict", values = { refused = true, answered = false } }
        is_error = { path = "$.status", at_least = 400 }
        http_status = "$.status"
        variant = { path = "$.tags", tag_prefix = ["abtest.variant:", "variant:"] }
        experiment_id = { value = "swap" }
        surface = { path = "$.feature", default = "chat" }
        exposed = false
        finish_reason = "$.stop"
        prompt_sha256 = { hash = ["$.system", "$.template"] }
        attributes = ["$.geo.country", "$.props.*"]
        """
    )
    body = {
        "trace": "t",
        "span": 7,
        "ms": 1763632800123,
        "model_name": "m",
        "user": {"id": 42},
        "duration_s": 0.5,
        "tokens": {"in": "14"},
        "verdict": "answered",
        "status": 200,
        "tags": ["x", "variant: b "],
        "stop": "end_turn",
        "system": "Be brief.",
        "geo": {"country": "ch"},
        "props": {"plan": "pro", "deep": {"a": 1}, "n": 1},
    }
    (call,) = read(body)
    assert isinstance(call, Interaction)
    assert call.ts.isoformat() == "2025-11-20T10:00:00.123000+00:00"
    assert (call.interaction_id, call.model, call.unit_id) == ("t:7", "m", "42")
    assert (call.latency_ms, call.input_tokens, call.http_status, call.is_error) == (500.0, 14, 200, False)
    assert (call.refused, call.variant, call.experiment_id, call.surface) == (False, "b", "swap", "chat")
    assert (call.exposed, call.finish_reason) == (False, "stop")
    assert call.prompt_sha256 is not None
    assert len(call.prompt_sha256) == 64
    assert call.attributes == {"country": "ch", "plan": "pro", "n": 1}
    (worse,) = read({**body, "status": 503, "verdict": "refused"})
    assert (worse.is_error, worse.refused) == (True, True)
    assert read({**body, "span": None})[0].reason == "missing: interaction_id ($.trace, $.span)"


@pytest.mark.parametrize(
    ("unit", "value", "iso"),
    [
        ("epoch_s", 1763632800, "2025-11-20T10:00:00+00:00"),
        ("epoch_s", 1763632800.5, "2025-11-20T10:00:00.500000+00:00"),
        ("epoch_s", "1763632800.5", "2025-11-20T10:00:00.500000+00:00"),
        ("epoch_ms", "1763632800123", "2025-11-20T10:00:00.123000+00:00"),
        ("epoch_us", 1763632800123456, "2025-11-20T10:00:00.123456+00:00"),
        ("epoch_ns", 1763632800123456789, "2025-11-20T10:00:00.123456+00:00"),
        ("epoch_ns", "1763632800123456789", "2025-11-20T10:00:00.123456+00:00"),
        ("iso", "2025-11-20T12:00:00+02:00", "2025-11-20T10:00:00+00:00"),
        ("iso", "2025-11-20 10:00:00.25", "2025-11-20T10:00:00.250000+00:00"),
    ],
)
def test_times(unit: str, value: Any, iso: str, reader: Callable[..., Any]) -> None:
    read = reader(f'interaction_id = "$.id"\nmodel = "$.model"\nts = {{ path = "$.at", from = "{unit}" }}\n')
    (call,) = read({**CALL, "at": value})
    assert call.ts.isoformat() == iso


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("ts", 1763632800, "bad_value: ts: a number needs from"),
        ("ts", "soon", "bad_value: ts: an ISO 8601 time"),
        ("ts", None, "missing: ts ($.at)"),
        ("latency_ms", -1, "bad_value: latency_ms"),
        ("latency_ms", "slow", "bad_value: latency_ms"),
        ("input_tokens", 1.5, "bad_value: input_tokens"),
        ("input_tokens", 2**70, "bad_value: input_tokens"),
        ("refused", "perhaps", "bad_value: refused"),
        ("unit_id", {"a": 1}, "bad_value: unit_id"),
        ("cost_usd", True, "bad_value: cost_usd"),
        ("variant", "odd", "bad_value: variant: 'odd' is none of the values"),
        ("is_error", "?", "bad_value: is_error: '?' is no number"),
    ],
)
def test_values_that_are_none_of_the_field(field: str, value: Any, reason: str, reader: Callable[..., Any]) -> None:
    lines = {
        "ts": "",
        "variant": 'variant = { path = "$.v", values = { a = "b" } }',
        "is_error": 'is_error = { path = "$.v", at_least = 400 }',
    }
    read = reader(BASE + lines.get(field, f'{field} = "$.v"'))
    (item,) = read({**CALL, "at" if field == "ts" else "v": value})
    assert isinstance(item, Reject)
    assert item.reason.startswith(reason)
    assert (item.line, item.offset) == (4, 9)


def test_texts_that_mean_null(reader: Callable[..., Any]) -> None:
    read = reader('nulls = ["-", "N/A"]\n' + BASE + 'unit_id = "$.u"\nprovider = "$.p"\n')
    (call,) = read({**CALL, "u": "-", "p": "N/A"})
    assert (call.unit_id, call.provider) == (None, None)


def test_prompts_of_messages_become_text(reader: Callable[..., Any]) -> None:
    read = reader(BASE + 'prompt_text = "$.messages"\nresponse_text = "$.answer"\n')
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}]
    (call,) = read({**CALL, "messages": messages, "answer": '{"x": 1}'})
    assert (call.prompt_text, call.response_text) == ("a\nb", '{"x": 1}')


RULES = """
[interaction]
when = { "$.event" = "completion" }
interaction_id = "$.id"
ts = "$.at"
model = "$.model"

[assignment]
when = { "$.event" = ["exposure", "assign"] }
experiment_id = "$.flag"
unit_id = "$.user"
variant = "$.arm"
ts = "$.at"

[[score]]
when = { "$.event" = "vote", "$.stars" = { exists = true } }
score_id = { path = ["$.id"], join = "" }
ts = "$.at"
name = { value = "stars" }
scorer_kind = { value = "user" }
value = "$.stars"
interaction_id = "$.call"

[[score]]
when = { "$.event" = "vote", "$.up" = { exists = true }, "$.bot" = { not = true } }
score_id = { path = ["$.id", "$.event"], join = "/" }
ts = "$.at"
name = { value = "thumb" }
scorer_kind = { value = "user" }
value = "$.up"
interaction_id = "$.call"
"""


def test_rules_tell_the_records_apart(reader: Callable[..., Any]) -> None:
    read = reader(RULES)
    at = {"at": "2026-11-20T10:00:00Z"}
    (call,) = read({**CALL, "event": "completion"})
    assert isinstance(call, Interaction)
    (given_,) = read({"event": "assign", "flag": "e", "user": "u", "arm": "b", **at})
    assert isinstance(given_, Assignment)
    stars, thumb = read({"event": "vote", "id": "s1", "stars": 4, "up": True, "call": "i1", **at})
    assert isinstance(stars, Score)
    assert (stars.value, stars.name, stars.score_id) == (4.0, "stars", "s1")
    assert (thumb.value, thumb.name, thumb.score_id) == (1.0, "thumb", "s1/vote")
    assert read({"event": "vote", "id": "s1", "up": True, "bot": True, "call": "i1", **at}) == [Ignored()]
    assert read({"event": "heartbeat"}) == [Ignored()]


def test_a_record_that_tells_its_own_type(reader: Callable[..., Any]) -> None:
    read = reader(
        """
        type = { path = "$.kind", values = { llm = "interaction", vote = "score" } }
        interaction_id = "$.id"
        ts = "$.at"
        model = "$.model"
        score_id = "$.vote_id"
        name = { value = "thumb" }
        scorer_kind = { value = "user" }
        value = "$.up"
        """
    )
    (call,) = read({**CALL, "kind": "llm"})
    assert isinstance(call, Interaction)
    (vote,) = read({**CALL, "kind": "vote", "vote_id": "v1", "up": False})
    assert isinstance(vote, Score)
    assert (vote.value, vote.interaction_id) == (0.0, "i1")
    assert read({**CALL, "kind": "metric"}) == [Ignored()]
    assert read(CALL) == [Ignored()]


def test_a_map_of_scores_only(reader: Callable[..., Any]) -> None:
    read = reader(
        'type = "score"\nscore_id = "$.id"\nts = "$.at"\nname = "$.metric"\nscorer_kind = { value = "judge" }\n'
        'value = "$.v"\ninteraction_id = "$.call"\n'
    )
    (score,) = read({**CALL, "metric": "tone", "v": "0.5", "call": "i1"})
    assert (score.value, score.name) == (0.5, "tone")


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (BASE + 'unitid = "$.u"', "unitid", "did you mean 'unit_id'"),
        (BASE + 'unit_id = { pth = "$.u" }', "unit_id.pth", "did you mean 'path'"),
        (BASE + "unit_id = { scale = 2 }", "unit_id", "exactly one of path, value and hash"),
        (BASE + 'unit_id = { path = "$.u", hash = "$.u" }', "unit_id", "exactly one"),
        (BASE + 'unit_id = { path = "$.u", value = "x" }', "unit_id", "no other options"),
        (BASE + 'unit_id = { path = "u" }', "unit_id.path", "no JSON path"),
        (BASE + "unit_id = []", "unit_id", "empty list"),
        (BASE + "unit_id = 5", "unit_id", "write a text"),
        (BASE + 'unit_id = "$.props.*"', "unit_id", "only attributes"),
        (BASE + 'latency_ms = { path = "$.d", scale = "x" }', "latency_ms.scale", "no number"),
        (BASE + 'latency_ms = { path = "$.d", scale = inf }', "latency_ms.scale", "no number"),
        (BASE + 'latency_ms = { value = "fast" }', "latency_ms.value", "write a number"),
        (BASE + 'refused = { path = "$.r", values = { a = "yes" } }', "refused.values.a", "true or false"),
        (BASE + 'refused = { path = "$.r", values = [] }', "refused.values", "a table"),
        (BASE + 'latency_ms = { path = "$.d", from = "epoch_s" }', "latency_ms.from", "only a time"),
        (BASE + 'variant = { path = "$.t", tag_prefix = 5 }', "variant.tag_prefix", "a text"),
        (BASE + 'variant = { path = "$.t", join = 5 }', "variant.join", "a text"),
        ('interaction_id = "$.id"\nmodel = "$.m"\nts = { path = "$.t", from = "unix" }', "ts.from", "epoch_s"),
        ('interaction_id = "$.id"\nmodel = "$.m"\nts = { value = "2026-01-01T00:00:00Z" }', "ts.value", "a constant"),
        ('interaction_id = "$.id"\nmodel = "$.m"', "ts", "interaction needs ts"),
        ('[score]\nscore_id = "$.id"', "score.ts", "score needs ts, name, scorer_kind"),
        ('type = "metric"\n' + BASE, "type", "no type of record"),
        ('type = { path = "$.k", values = { a = "metric" } }\n' + BASE, "type.values", "no type"),
        (BASE + "when = 5", "when", "a table"),
        (BASE + 'when = { "event" = 5 }', "when.event", "no JSON path"),
        (BASE + 'when = { "$.event" = { near = 5 } }', "when.$.event", "exists = true"),
        (BASE + "attributes = 5", "attributes", "a list of paths"),
        (BASE + 'attributes = ["country"]', "attributes", "no JSON path"),
        (BASE + 'attributes = { a = "b" }', "attributes.a", "no JSON path"),
        (ASSIGNMENT + 'attributes = ["$.x"]', "assignment.attributes", "only an interaction"),
        ("nulls = 5\n" + BASE, "nulls", "a list of texts"),
        ("", None, "the map is empty"),
        ("a = ", None, "is no TOML"),
        (b"\xff\xfe", None, "not UTF-8"),
        (b"#" * (1024 * 1024 + 1), None, "larger than 1 MB"),
    ],
)
def test_mistakes_name_the_key_and_what_to_write(
    text: str | bytes, key: str | None, words: str, tmp_path: Path
) -> None:
    error = mistake(tmp_path, text)
    assert error.key == key
    assert words in f"{error.message} {error.hint}"


def test_no_such_map() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'helicone'"):
        load_map(Path("helicon"))
    with pytest.raises(UnknownNameError, match="no such map file"):
        load_map(Path("nowhere/our.toml"))


def test_maps_are_no_format_that_is_detected() -> None:
    assert not {"map", *presets()} & set(formats())


def test_names_of_maps(tmp_path: Path) -> None:
    path = tmp_path / "Our Gateway.v2.toml"
    path.write_text(BASE)
    assert load_map(path).name == "map_our_gateway_v2"
    assert load_map(Path("helicone")).name == "helicone"
    assert load_map(path).sniff([CALL]) == 1.0


@pytest.mark.parametrize("name", presets())
def test_presets_load_and_survive_garbage(name: str) -> None:
    fmt = load_map(Path(name))
    for line in (b"{}", b"[]", b"null", b"\xff", b'{"a":' * 5000, b'{"request_id": 5}'):
        for item in fmt.read(line, 1, 0):
            assert isinstance(item, (Reject, Ignored))


def test_envoy_preset() -> None:
    fmt = load_map(Path("envoy_ai_gateway"))
    good, bad = [fmt.read(json.dumps(line).encode(), 1, 0)[0] for line in ENVOY]
    assert isinstance(good, Interaction)
    assert isinstance(bad, Interaction)
    assert (good.interaction_id, good.ts.isoformat()) == (ENVOY[0]["x-request-id"], "2026-11-23T02:00:00.123000+00:00")
    assert (good.model, good.provider, good.operation) == ("gpt-4o", "openai-backend", "chat")
    assert (good.input_tokens, good.output_tokens, good.latency_ms) == (14, 8, 412.0)
    assert (good.is_error, good.error_type, good.http_status) == (False, None, 200)
    assert (bad.is_error, bad.error_type, bad.http_status) == (True, "UF", 503)
    assert (bad.input_tokens, bad.provider) == (None, None)
    headers = {
        **ENVOY[0],
        "abtest.experiment": "e",
        "abtest.variant": "b",
        "abtest.unit_id": "u",
        "abtest.prompt_version": "-",
    }
    (call,) = fmt.read(json.dumps(headers).encode(), 1, 0)
    assert isinstance(call, Interaction)
    assert (call.experiment_id, call.variant, call.unit_id, call.prompt_version) == ("e", "b", "u", None)
    assert list(fmt.read(b'{"method": "GET", "start_time": "2026-11-23T02:00:00Z"}', 1, 0)) == [Ignored()]


def test_helicone_preset() -> None:
    body = {
        "request_id": "r1",
        "request_created_at": "2026-11-20T10:00:00.000Z",
        "request_path": "/v1/chat/completions",
        "request_body": {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
        "request_user_id": "u1",
        "request_properties": {"Experiment": "e", "Variant": "b", "Prompt-Version": "v6", "plan": "pro"},
        "request_model": "gpt-4o",
        "model_override": None,
        "response_id": "x",
        "response_status": 200,
        "response_model": "gpt-4o-2024-08-06",
        "response_body": {"id": "chatcmpl-1", "choices": [{"finish_reason": "stop", "message": {"content": "Hello."}}]},
        "provider": "OPENAI",
        "delay_ms": 812,
        "time_to_first_token": None,
        "prompt_tokens": 14,
        "completion_tokens": 8,
        "prompt_cache_read_tokens": 4,
        "costUSD": 0.0001,
        "feedback_id": "f1",
        "feedback_created_at": "2026-11-20T11:00:00Z",
        "feedback_rating": False,
    }
    call, score = load_map(Path("helicone")).read(json.dumps(body).encode(), 1, 0)
    assert isinstance(call, Interaction)
    assert isinstance(score, Score)
    assert (call.interaction_id, call.unit_id, call.experiment_id, call.variant) == ("r1", "u1", "e", "b")
    assert (call.prompt_version, call.model, call.model_version) == ("v6", "gpt-4o", "gpt-4o-2024-08-06")
    assert (call.latency_ms, call.cost_usd, call.is_error, call.finish_reason) == (812.0, 0.0001, False, "stop")
    assert (call.prompt_text, call.response_text, call.provider_response_id) == ("hi", "Hello.", "chatcmpl-1")
    assert call.attributes["plan"] == "pro"
    assert (score.value, score.scorer_kind, score.interaction_id, score.name) == (0.0, "user", "r1", "rating")
    failed = {
        **body,
        "response_status": 429,
        "response_body": {"error": {"code": "rate_limit_exceeded"}},
        "feedback_id": None,
    }
    (call,) = load_map(Path("helicone")).read(json.dumps(failed).encode(), 1, 0)
    assert isinstance(call, Interaction)
    assert (call.is_error, call.error_type, call.http_status) == (True, "rate_limit_exceeded", 429)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
EVERYTHING = load_map(Path("envoy_ai_gateway")), load_map(Path("helicone"))


@given(value=JSON, key=st.sampled_from(sorted(ENVOY[0])))
def test_any_value_in_a_log_line_never_raises(value: Any, key: str) -> None:
    line = json.dumps({**ENVOY[0], key: value, "request_id": "r", "request_body": value}).encode()
    for fmt in EVERYTHING:
        for item in fmt.read(line, 1, 0):
            assert isinstance(item, (Interaction, Score, Reject, Ignored))


@given(
    table=st.dictionaries(st.sampled_from(["interaction_id", "ts", "model", "value", "when", "type", "score"]), JSON)
)
def test_any_map_is_read_or_refused(table: dict[str, Any]) -> None:
    with contextlib.suppress(SpecError):
        assert read_spec(table, "x.toml").rules


DOCS = Path(__file__).parents[2] / "docs" / "formats"
documented = pytest.mark.skipif(not DOCS.is_dir(), reason="the docs are not in this checkout")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@documented
def test_the_maps_of_the_docs(reader: Callable[..., Any]) -> None:
    flat, rules = blocks("map.md", "toml")
    body = {
        "id": "i1",
        "started_ms": 1763632800123,
        "model": {"asked": "m"},
        "duration_s": 0.25,
        "status": 500,
        "tags": ["variant:b"],
        "geo": {"country": "ch"},
    }
    (call,) = reader(flat)(body)
    assert (call.latency_ms, call.is_error, call.variant, call.experiment_id) == (250.0, True, "b", "swap")
    filled = rules.replace("# ... fields ...", BASE)
    (vote,) = reader(filled)({"event": "vote", "id": "s", "at": CALL["at"], "stars": 4, "call_id": "i1"})
    assert isinstance(vote, Score)


@documented
def test_the_docs_of_the_native_format_name_every_field() -> None:
    page = (DOCS / "native.md").read_text(encoding="utf-8")
    for kind, section in zip(NAMES, re.split(r"^## ", page, flags=re.MULTILINE)[1:], strict=True):
        assert section.startswith(kind)
        named = set(re.findall(r"`(\w+)`", section))
        assert set(NAMES[kind]) <= named
    native = get("native")
    (examples,) = blocks("native.md", "json")
    items = [native.read(line.encode(), 1, 0)[0] for line in examples.splitlines()]
    for item, kind in zip(items, (Interaction, Assignment, Score), strict=True):
        assert isinstance(item, kind)


@documented
@pytest.mark.parametrize("name", ["openai", "anthropic", "litellm", "mlflow"])
def test_the_examples_of_the_docs_are_read(name: str) -> None:
    (example,) = blocks(f"{name}.md", "json")
    assert detect([json.loads(example)], file="x").name == name
    (item,) = get(name).read(example.strip().encode(), 1, 0)
    assert isinstance(item, Interaction)
    assert item.variant is not None
