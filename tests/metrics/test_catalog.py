"""The catalogue: every entry is a metric, every default is overridable and shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from abtest.errors import SpecError, UnknownNameError
from abtest.metrics.base import kinds
from abtest.metrics.catalog import entries
from abtest.metrics.expressions import COLUMNS, parse
from abtest.spec import Experiment

BASE: dict[str, Any] = {"id": "e", "control": "a", "treatments": ["b"]}
NEEDED = {"judge_score": {"score": "helpfulness"}, "human_label": {"score": "q"}, "user_rating": {"score": "stars"}}


def spec(*metrics: dict[str, Any], **more: Any) -> Experiment:
    return Experiment.from_dict({**BASE, "metrics": list(metrics), **more})


def one(use: str, **keys: Any) -> Any:
    return spec({"use": use, **NEEDED.get(use, {}), **keys}).metrics[0]


def test_what_the_issue_asks_for_is_there() -> None:
    wanted = {
        "refusal_rate", "error_rate", "timeout_rate", "format_validity", "parse_success", "thumbs_down_rate", "thumbs_up_rate",
        "regeneration_rate", "abandonment_rate", "latency_p50", "latency_p95", "latency_p99", "ttft_p50", "ttft_p95", "ttft_p99",
        "input_tokens_per_request", "output_tokens_per_request", "cost_per_request", "cost_per_success", "output_chars_mean",
        "output_chars_p50", "output_chars_p90", "output_tokens_p50", "output_tokens_p90", "judge_score", "human_label", "requests_per_unit",
    }  # fmt: skip
    assert wanted <= set(entries())


@pytest.mark.parametrize("name", list(entries()))
def test_every_entry_is_a_metric_with_its_defaults(name: str) -> None:
    entry = entries()[name]
    assert entry.keys["kind"] in kinds()
    assert entry.definition
    assert entry.logged
    plain = one(name)
    assert (plain.name, plain.role, plain.kind) == (name, "info", entry.keys["kind"])
    guarded = one(name, guardrail=True)
    assert guarded.guardrail.action == entry.action
    assert {guarded.guardrail.margin.kind: guarded.guardrail.margin.value} == dict(entry.margin)
    if entry.mde:
        assert one(name, success=True).success.mde.value == next(iter(entry.mde.values()))
    else:
        with pytest.raises(SpecError, match="no better side"):
            one(name, success=True)
    json.dumps(entry.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", list(entries()))
def test_the_written_out_metric_measures_the_same(name: str) -> None:
    """A spec that uses the catalogue and one that spells it out are one policy."""
    entry = entries()[name]
    by_name = spec({"use": name, **NEEDED.get(name, {}), "guardrail": True})
    margin = {"margin": dict(entry.margin), "action": entry.action}
    spelled = spec({"name": name, **entry.keys, **NEEDED.get(name, {}), "guardrail": margin})
    assert by_name.policy_sha256() == spelled.policy_sha256()
    assert by_name.metrics[0].measure() == spelled.metrics[0].measure()


def test_every_key_may_be_given_instead() -> None:
    metric = one(
        "refusal_rate", name="declines", event="refused OR finish_reason = 'content_filter'", per="unit", better="higher",
        guardrail={"margin": {"relative": 0.5}, "weight": 2}, description="mine",
    )  # fmt: skip
    assert (metric.name, metric.per, metric.better, metric.description) == ("declines", "unit", "higher", "mine")
    assert (metric.guardrail.margin.relative, metric.guardrail.weight, metric.guardrail.action) == (0.5, 2, "halt")
    assert metric.catalogue.defaults == ("guardrail.action",)


@pytest.mark.parametrize(
    ("guardrail", "margin", "action", "defaults"),
    [
        (True, 0.01, "halt", {"guardrail.margin", "guardrail.action"}),
        ({}, 0.01, "halt", {"guardrail.margin", "guardrail.action"}),
        ({"action": "hold"}, 0.01, "hold", {"guardrail.margin"}),
        ({"margin": {"points": 0.03}}, 0.03, "halt", {"guardrail.action"}),
        ({"margin": {"points": 0.03}, "action": "hold"}, 0.03, "hold", set()),
    ],
)
def test_the_guardrail_shorthand(guardrail: Any, margin: float, action: str, defaults: set[str]) -> None:
    metric = one("refusal_rate", guardrail=guardrail)
    assert (metric.guardrail.margin.points, metric.guardrail.action) == (margin, action)
    assert {d for d in metric.catalogue.defaults if d.startswith("guardrail")} == defaults


def test_guardrail_false_is_no_guardrail() -> None:
    assert one("refusal_rate", guardrail=False).role == "info"
    assert one("judge_score", success=False).role == "info"


def test_a_score_instead_of_a_column_replaces_it() -> None:
    """`parse_success` reads an attribute; a team that logs a score says so, and nothing of the default stays."""
    metric = one("parse_success", score="json_valid", scorer_kind="code")
    assert (metric.event, metric.score, metric.scorer_kind, metric.absent) == (None, "json_valid", "code", "unknown")
    column = one("thumbs_down_rate", event="attributes ->> 'thumb' = 'down'")
    assert (column.score, column.scorer_kind, column.absent) == (None, None, "unknown")
    assert column.measure().score is None


def test_another_value_takes_neither_the_unit_nor_the_definition() -> None:
    metric = one("latency_p99", value="response_chars")
    assert (metric.unit, metric.description) == ("", "")
    assert one("latency_p99").unit == "ms"
    assert one("judge_score").description


def test_user_clicks_count_over_all_requests() -> None:
    measure = one("thumbs_down_rate").measure()
    assert (measure.event, measure.score, measure.scorer_kind, measure.absent_is_zero) == (
        True,
        "thumbs_down",
        "user",
        True,
    )
    assert measure.numerator is None
    assert not one("parse_success", score="json_valid").measure().absent_is_zero


@pytest.mark.parametrize(
    ("metric", "key", "words"),
    [
        ({"use": "refusal_rat"}, "metrics[0].use", "did you mean 'refusal_rate'"),
        ({"use": "zzz"}, "metrics[0].use", "known:"),
        ({"use": 3}, "metrics[0].use", "known:"),
        ({"use": None}, "metrics[0].use", "known:"),
        ({"use": ["refusal_rate"]}, "metrics[0].use", "known:"),
        ({"use": "x" * 9999, "name": "m"}, "metrics.m.use", "known:"),
        ({"use": "judge_score"}, "metrics[0].score", "name of the judge's scores"),
        ({"use": "refusal_rate", "kind": "mean"}, "metrics[0].kind", "is a proportion"),
        ({"use": "refusal_rate", "evnt": "refused"}, "metrics.refusal_rate.evnt", "did you mean 'event'"),
        ({"use": "refusal_rate", "guardrail": {"margin": {"absolute": 1}}}, "metrics.refusal_rate", "points or relative"),
        ({"use": "refusal_rate", "guardrail": {"margn": 1}}, "metrics.refusal_rate.guardrail.margn", "did you mean 'margin'"),
        ({"use": "refusal_rate", "guardrail": 0.01}, "metrics.refusal_rate.guardrail", "dictionary"),
        ({"use": "refusal_rate", "event": "refsed"}, "metrics.refusal_rate.event", "did you mean 'refused'"),
        ({"name": "m", "kind": "mean", "value": "latency_ms", "better": "lower", "guardrail": True}, "metrics.m.guardrail", "true takes"),
        ({"name": "m"}, "metrics.m.kind", "abtest metrics"),
    ],
)  # fmt: skip
def test_errors_name_the_key_and_the_remedy(metric: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec(metric)
    assert caught.value.key == key
    assert words in str(caught.value)
    assert len(str(caught.value)) < 2500


def test_an_unknown_name_is_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError):
        spec({"use": "nope"})


def test_two_uses_need_two_names() -> None:
    with pytest.raises(SpecError, match="there twice"):
        spec({"use": "latency_p99"}, {"use": "latency_p99"})
    assert len(spec({"use": "latency_p99"}, {"use": "latency_p99", "name": "p999", "q": 0.999}).metrics) == 2


def test_no_default_is_hidden() -> None:
    experiment = spec(
        {"use": "refusal_rate", "guardrail": True},
        {"use": "format_validity", "guardrail": {"action": "hold"}},
        {"use": "latency_p99", "guardrail": {"margin": {"absolute": 200}}},
        {"name": "own", "kind": "count", "better": "lower"},
    )
    notes = experiment.default_notes
    assert notes == [
        "refusal_rate: catalogue metric refusal_rate; its defaults: better lower, event refused, margin +1 pp, action halt",
        "format_validity: catalogue metric format_validity; its defaults: better higher, event format_ok, margin -1 pp",
        "latency_p99: catalogue metric latency_p99; its defaults: value latency_ms, q 0.99, better lower, action halt",
    ]
    assert any("cost_usd" in note for note in spec({"use": "cost_per_request"}).default_notes)


def test_what_is_written_down_reads_back_without_the_catalogue() -> None:
    """The ledger keeps the resolved metric: a default that changes in a later version does not change an old decision."""
    experiment = spec({"use": "cost_per_success", "per": "request", "guardrail": True}, {"use": "thumbs_down_rate"})
    data = json.loads(json.dumps(experiment.model_dump(mode="json", exclude_none=True, exclude_defaults=True)))
    assert all("use" not in m for m in data["metrics"])
    again = Experiment.from_dict(data)
    assert again.metrics[0].per == "request"
    assert again.policy_sha256() == experiment.policy_sha256()
    assert again.default_notes == experiment.default_notes


def test_where_a_default_came_from_is_no_policy() -> None:
    named, spelled = spec({"use": "error_rate"}), spec({"use": "error_rate", "event": "is_error"})
    assert named.metrics[0].catalogue != spelled.metrics[0].catalogue
    assert named.policy_sha256() == spelled.policy_sha256()


DOCS = Path(__file__).parent.parent.parent / "docs" / "metrics.md"


def test_the_table_of_the_docs_is_the_catalogue() -> None:
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    expected = [
        f"| `{e.name}` | {e.definition} | {e.keys['kind']}, {e.keys['better']} | {e.margin_text()}, {e.action} | {e.logged} |"
        for e in entries().values()
    ]
    assert [row for row in rows if row.split("`")[1] in entries()] == expected


def test_the_specs_of_the_docs_are_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    metrics, prices, book = blocks
    (tmp_path / "prices.toml").write_text(book, encoding="utf-8")
    (tmp_path / "e.toml").write_text(
        f'id = "x"\ncontrol = "a"\ntreatments = ["b"]\n{metrics}\n{prices}', encoding="utf-8"
    )
    experiment = Experiment.from_toml(tmp_path / "e.toml")
    assert [m.name for m in experiment.metrics] == [
        "refusal_rate",
        "latency_p99",
        "judge_score",
        "cost_per_request_capped",
    ]
    assert {p.name for p in experiment.prices.model} == {"our-finetune", "gpt-4o-2024-08-06"}


@pytest.mark.parametrize(
    ("use", "field", "row", "expected"),
    [
        ("timeout_rate", "event", {"is_error": False}, False),
        ("timeout_rate", "event", {"is_error": False, "error_type": "Timeout"}, False),
        ("timeout_rate", "event", {"is_error": True, "http_status": 504}, True),
        ("timeout_rate", "event", {"is_error": True, "error_type": "<class 'openai.APITimeoutError'>"}, True),
        ("timeout_rate", "event", {"is_error": True, "http_status": 500, "error_type": "Timeout"}, True),
        ("timeout_rate", "event", {"is_error": True, "http_status": 500}, False),
        ("timeout_rate", "event", {"is_error": True, "error_type": "RateLimitError"}, False),
        ("timeout_rate", "event", {"is_error": True}, None),
        ("truncation_rate", "event", {"finish_reason": "length"}, True),
        ("truncation_rate", "event", {"finish_reason": "stop"}, False),
        ("truncation_rate", "event", {}, None),
        ("parse_success", "event", {"attributes": '{"parse_ok": true}'}, True),
        ("parse_success", "event", {"attributes": '{"parse_ok": false}'}, False),
        ("parse_success", "event", {"attributes": '{"parse_ok": "perhaps"}'}, None),
        ("parse_success", "event", {"attributes": "{}"}, None),
        ("cost_per_success", "denominator", {"is_error": False}, 1),
        ("cost_per_success", "denominator", {"is_error": False, "refused": False, "format_ok": True}, 1),
        ("cost_per_success", "denominator", {"is_error": True, "format_ok": True}, 0),
        ("cost_per_success", "denominator", {"is_error": False, "refused": True}, 0),
        ("cost_per_success", "denominator", {"is_error": False, "format_ok": False}, 0),
        ("sessions_per_unit", "event", {"session_id": "s", "turn": 1}, True),
        ("sessions_per_unit", "event", {"session_id": "s", "turn": 2}, False),
        ("sessions_per_unit", "event", {"turn": 1}, None),
    ],
)
def test_what_an_entry_counts(use: str, field: str, row: dict[str, Any], expected: Any) -> None:
    expression = parse(entries()[use].keys[field], key="k")
    types = {"text": "VARCHAR", "json": "VARCHAR", "number": "DOUBLE", "boolean": "BOOLEAN"}
    names = sorted(expression.columns)
    columns = ", ".join(f'CAST(? AS {types[COLUMNS[n]]}) AS "{n}"' for n in names)
    found = duckdb.execute(
        f"SELECT {expression.sql('c')} FROM (SELECT {columns}) c", [row.get(n) for n in names]
    ).fetchone()
    assert found == (expected,)
