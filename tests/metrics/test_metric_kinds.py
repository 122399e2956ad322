"""Every metric kind: found through the registry, measures what its docstring says, refuses what it cannot mean."""

from __future__ import annotations

from typing import Any

import pytest

from abtest.errors import SpecError, UnknownNameError
from abtest.metrics.base import DEFAULT_SCALE, MONEY_SCALE, kinds
from abtest.spec import Experiment

MINIMAL: dict[str, dict[str, Any]] = {
    "proportion": {"event": "refused"},
    "mean": {"value": "latency_ms"},
    "ratio": {"numerator": "cost_usd", "denominator": "output_tokens"},
    "quantile": {"value": "latency_ms", "q": 0.95},
    "count": {},
    "distribution": {"value": "output_tokens"},
}


def metric(kind: str, **fields: Any) -> Any:
    data = {"name": "m", "kind": kind, "better": "lower", **MINIMAL[kind], **fields}
    data = {k: v for k, v in data.items() if v is not None}
    return Experiment.from_dict({"id": "e", "control": "A", "treatments": ["B"], "metrics": [data]}).metrics[0]


def refused(kind: str, **fields: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        metric(kind, **fields)
    return caught.value


def test_the_registry_holds_every_kind_with_a_sample_here() -> None:
    assert set(kinds()) == set(MINIMAL)
    for name, kind in kinds().items():
        assert kind.kind_name == name
        assert (kind.__doc__ or "").strip()


@pytest.mark.parametrize("kind", sorted(MINIMAL))
def test_every_kind_says_what_it_measures(kind: str) -> None:
    measure = metric(kind).measure()
    assert (measure.numerator is None) == (measure.score is not None)
    assert measure.columns <= {"refused", "latency_ms", "cost_usd", "output_tokens"}
    assert measure.scale in (DEFAULT_SCALE, MONEY_SCALE)


@pytest.mark.parametrize(
    ("kind", "per", "total", "capped"),
    [
        ("proportion", "request", False, False), ("proportion", "call", False, False), ("proportion", "unit", True, True),
        ("mean", "request", False, False), ("mean", "unit", True, False), ("count", "request", True, False), ("count", "unit", True, False),
        ("ratio", "call", False, False), ("quantile", "call", False, False),
    ],
)  # fmt: skip
def test_what_a_unit_adds_at_most(kind: str, per: str, total: bool, capped: bool) -> None:
    measure = metric(kind, per=per).measure()
    assert (measure.per_unit_total, measure.cap_at_one) == (total, capped)


def test_money_is_kept_in_billionths() -> None:
    assert metric("mean", value="cost_usd * 100").measure().scale == MONEY_SCALE
    ratio = metric("ratio").measure()
    assert (ratio.scale, ratio.denominator_scale) == (MONEY_SCALE, MONEY_SCALE)
    assert metric("mean").measure().denominator_scale == 1


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("proportion", {"event": "latency_ms"}, "boolean is needed"),
        ("proportion", {"event": None}, "exactly one"),
        ("proportion", {"score": "parse_ok"}, "exactly one"),
        ("proportion", {"event": ""}, "no expression"),
        ("proportion", {"event": None, "score": ""}, "at least 1"),
        ("proportion", {"scorer_kind": "judge"}, "scorer_kind goes with score"),
        ("proportion", {"absent": "no"}, "absent goes with score"),
        ("proportion", {"absent": "maybe"}, "not possible"),
        ("proportion", {"cap": 3}, "unknown key"),
        ("count", {"event": ""}, "no expression"),
        ("mean", {"value": ""}, "no expression"),
        ("mean", {"value": None, "score": "help", "cap": 3}, "cap goes with value"),
        ("mean", {"cap": 0}, "greater than 0"),
        ("mean", {"cap": -1}, "greater than 0"),
        ("mean", {"cap": float("inf")}, "finite"),
        ("mean", {"cap": True}, "dictionary"),
        ("mean", {"cap": "99 %"}, "dictionary"),
        ("mean", {"cap": {}}, "exactly one of value and quantile"),
        ("mean", {"cap": {"value": 3, "quantile": 0.99}}, "exactly one of value and quantile"),
        ("mean", {"cap": {"quantile": 0.5}}, "greater than 0.5"),
        ("ratio", {"cap": {"quantile": 1}}, "less than 1"),
        ("ratio", {"cap": {"quantle": 0.9}}, "unknown key"),
        ("proportion", {"value": "latency_ms"}, "unknown key"),
        ("mean", {"value": "refused"}, "number is needed"),
        ("mean", {"value": None}, "exactly one"),
        ("mean", {"score": "help"}, "exactly one"),
        ("mean", {"scorer_kind": "judge"}, "goes with score"),
        ("mean", {"bounds": [1, 0]}, "smallest, largest"),
        ("ratio", {"denominator": "model"}, "number is needed"),
        ("ratio", {"numerator": "(SELECT 1)"}, "not allowed"),
        ("quantile", {"q": 0}, "greater than 0"),
        ("quantile", {"q": 1.0}, "less than 1"),
        ("quantile", {"per": "unit"}, "not possible"),
        ("count", {"event": "output_tokens"}, "boolean is needed"),
        ("count", {"per": "user"}, "not possible"),
        ("proportion", {"guardrail": {"margin": 0.01}}, "needs a unit"),
        ("proportion", {"guardrail": {"margin": {"absolute": 0.01}}}, "points or relative"),
        ("mean", {"guardrail": {"margin": {"points": 0.01}}}, "absolute or relative"),
        ("mean", {"success": {"mde": {"points": 0.01}}}, "success.mde"),
        ("mean", {"guardrail": {"margin": {"absolute": 1, "relative": 0.1}}}, "exactly one"),
        ("mean", {"guardrail": {"margin": {"absolute": -1}}}, "greater than 0"),
        ("mean", {"guardrail": {"margin": {"absolute": float("inf")}}}, "finite"),
        ("mean", {"frozen": {"variance": 0}}, "greater than 0"),
        ("mean", {"name": "two words"}, "pattern"),
        ("mean", {"better": "bigger"}, "not possible"),
    ],
)
def test_what_a_metric_cannot_mean_is_a_spec_error(kind: str, fields: dict[str, Any], words: str) -> None:
    error = refused(kind, **fields)
    assert words in error.message
    assert (error.key or "").startswith("metrics")


def test_expression_errors_name_the_metric_and_the_key() -> None:
    error = refused("ratio", denominator="latncy_ms")
    assert isinstance(error, (SpecError, UnknownNameError))
    assert "metrics.m.denominator" in str(error)
    assert "latency_ms" in str(error)


def test_roles_and_signs() -> None:
    guardrail = {"guardrail": {"margin": {"relative": 0.1}}}
    assert [metric("mean", **f).role for f in ({}, {"success": {"mde": {"relative": 0.1}}}, guardrail)] == [
        "info",
        "success",
        "guardrail",
    ]
    assert (metric("mean").sign, metric("mean", better="higher").sign) == (1, -1)


@pytest.mark.parametrize(
    ("cap", "value", "quantile"),
    [
        (1000, 1000, None),
        (0.5, 0.5, None),
        ({"value": 7}, 7, None),
        ({"quantile": 0.99}, None, 0.99),
        (None, None, None),
    ],
)
@pytest.mark.parametrize("kind", ["mean", "ratio"])
def test_a_cap_reaches_the_scan(kind: str, cap: Any, value: float | None, quantile: float | None) -> None:
    spec = metric(kind, cap=cap)
    measure = spec.measure()
    assert (measure.cap, measure.cap_quantile) == (value, quantile)
    assert type(spec).model_validate(spec.model_dump()).model_dump() == spec.model_dump()


def test_a_cap_is_policy() -> None:
    def policy(**fields: Any) -> str:
        data = {"name": "m", "kind": "mean", "better": "lower", "value": "latency_ms", **fields}
        return Experiment.from_dict({"id": "e", "control": "A", "treatments": ["B"], "metrics": [data]}).policy_sha256()

    assert len({policy(), policy(cap=3), policy(cap=4), policy(cap={"quantile": 0.9})}) == 4
    assert policy(cap=3) == policy(cap={"value": 3})


def test_a_proportion_of_scores() -> None:
    measure = metric("proportion", event=None, score="parse_ok", scorer_kind="code").measure()
    assert (measure.event, measure.numerator, measure.score, measure.scorer_kind) == (True, None, "parse_ok", "code")
    assert not measure.absent_is_zero
    assert metric("proportion", event=None, score="thumbs_down", absent="no").measure().absent_is_zero
