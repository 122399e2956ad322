"""Random specs: each is accepted or refused by a SpecError that names a key, on one line; nothing else ever comes out."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import SpecError
from abtest.metrics.base import kinds
from abtest.metrics.catalog import entries
from abtest.spec import Experiment

FULL: dict[str, Any] = {
    "id": "x", "revision": 2, "description": "d", "unit": "user", "control": "a", "treatments": ["b"], "alpha": 0.05,
    "start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z", "warm_up_units": 200,
    "budget": {"halt": 0.01, "sample_ratio": 0.01},
    "population": {"where": "surface = 'x' AND cost < 1", "per_request": "last", "max_contamination": 0.01},
    "arms": {"a": {"model": "m"}, "b": {"model": "n", "prompt_version": "v2"}},
    "metrics": [
        {"use": "refusal_rate", "guardrail": True},
        {"use": "judge_score", "score": "help", "success": True, "bounds": [0, 1], "covariate": "pre"},
        {"use": "cost_per_success", "guardrail": {"margin": {"relative": 0.1}, "action": "hold", "weight": 2}, "cap": {"quantile": 0.99}},
        {"name": "p", "kind": "proportion", "event": "refused", "better": "lower", "per": "unit",
         "guardrail": {"margin": {"points": 0.01}}},
        {"name": "clicks", "kind": "proportion", "score": "down", "scorer_kind": "user", "absent": "no", "better": "lower"},
        {"name": "m", "kind": "mean", "value": "latency_ms / 1000", "better": "lower", "cap": 1000,
         "frozen": {"variance": 1.0, "baseline": 2.0}},
        {"name": "r", "kind": "ratio", "numerator": "cost", "denominator": "output_tokens", "better": "lower"},
        {"name": "q", "kind": "quantile", "value": "latency_ms", "q": 0.99, "better": "lower", "frozen": {"threshold": 900.0}},
        {"name": "c", "kind": "count", "event": "is_error", "better": "lower", "unit": "errors", "description": "d"},
    ],
    "prices": {"missing_counts": "zero", "model": [{"name": "m", "provider": "p", "since": "2026-01-01", "until": "2027-01-01", "input": 1.0,
                                                   "output": 2, "cached_input": 0.5, "reasoning": 3, "source": "s"}]},
    "sequential": {"method": "anytime"},
    "ramp": [{"stage": "shadow"}, {"stage": "canary", "share": 0.01, "min_hours": 24, "min_units": 5}, {"stage": "ab", "share": 0.5, "max_days": 3}],
    "traffic": {"control": "abtest"},
    "allocation": [{"at": "2026-11-01T00:00:00Z", "share": 0.01}, {"at": "2026-11-03T00:00:00Z", "share": 0.5}],
    "halt": {"flag": {"file": "f.json", "key": "k", "format": "flagd", "variants": {"b": "v"}},
             "webhook": {"url": "https://example.com/x", "secret_env": "S"}},
    "freshness": {"max_age": "6h"}, "policy": {"on_timeout": "hold"},
}  # fmt: skip

KEYS = [
    *FULL, "name", "kind", "use", "better", "event", "value", "score", "q", "numerator", "denominator", "per", "guardrail", "success", "margin", "mde", "points",
    "relative", "absolute", "action", "cap", "quantile", "frozen", "catalogue", "entry", "defaults", "model", "file", "sha256", "since", "until", "input", "share",
    "stage", "at", "", " ", "a.b", "metrics[0]", "_derived", "_folder", "__class__", "é", "x\ny", "\x00", "{", "model_config",
]  # fmt: skip
WORDS = [
    *kinds(), *entries(), "lower", "higher", "call", "request", "unit", "halt", "hold", "pre", "user", "last", "canary", "shadow", "", " ", "x", "latency_ms", "refused",
    "cost", "(SELECT 1)", "((((", "2026-11-01", "2026-11-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "6h", "1e999", "nan", "http://[", "https://x:99999/",
    "https://u:p@h/", "whsec_x", "\x00", "\ud800", "\u202e", "x\ny", "a: b", "metrics: x", "'; --", "$x", "{{ where }}", "x" * 3000,
]  # fmt: skip
NUMBERS = [
    0,
    1,
    -1,
    2,
    0.5,
    0.01,
    0.05,
    1.0,
    -0.0,
    1e-300,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    2**31,
    2**63,
    2**64,
    10**400,
    -(10**4200),
    30,
    0.999999,
]

scalars = st.one_of(
    st.sampled_from(WORDS), st.sampled_from(NUMBERS), st.booleans(), st.none(), st.binary(max_size=2),
    st.sampled_from([date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), object(), {1}, (1, 2), 1j]),
)  # fmt: skip
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=4), st.sampled_from([0, 1, None, True, 2.5, ("a",)]))
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)), max_leaves=12
)  # fmt: skip


def outcome(data: dict[Any, Any]) -> Experiment | SpecError:
    """Return what a spec gives; anything but an experiment or a proper error fails the test."""
    before = _shape(data)
    found = _read(data)
    if isinstance(found, SpecError):
        assert found.key, found.message
        assert found.file
        for part in (found.message, found.key, str(found)):
            assert len(part.splitlines()) == 1
            assert len(part) < 10_000
        json.dumps(found.to_dict())
    assert _shape(data) == before, "the caller's mapping was changed"
    return found


def _read(data: dict[Any, Any]) -> Experiment | SpecError:
    try:
        return Experiment.from_dict(data, file="e.toml")
    except SpecError as error:
        return error


def _shape(data: Any) -> Any:
    """Return the keys, all the way down: numbers may be too long to be written out."""
    if isinstance(data, dict):
        return {k: _shape(v) for k, v in data.items()}
    return [_shape(v) for v in data] if isinstance(data, list) else type(data)


def usable(experiment: Experiment) -> None:
    """What is accepted can be used: measured, written down, read back, hashed."""
    for metric in experiment.metrics:
        metric.measure()
        experiment.halt_alpha(metric)
    experiment.where_expression()
    assert isinstance(experiment.default_notes, list)
    body = json.loads(json.dumps(experiment.model_dump(mode="json", exclude_none=True, exclude_defaults=True)))
    assert Experiment.from_dict(body).policy_sha256() == experiment.policy_sha256()


def test_the_full_spec_is_one() -> None:
    found = outcome(FULL)
    assert isinstance(found, Experiment)
    usable(found)


@settings(max_examples=300)
@given(st.dictionaries(keys, values, max_size=6))
def test_random_mappings(data: dict[Any, Any]) -> None:
    outcome(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for k, v in inner for place in _places(v, (*path, k)))]


PLACES = [place for place in _places(FULL) if place]


@settings(max_examples=600)
@given(st.data())
def test_a_good_spec_with_mistakes(data: st.DataObject) -> None:
    """One to three places of a spec that uses every key are replaced, removed, or given a key more."""
    spec = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(PLACES))
        here: Any = spec
        try:
            for step in path:
                here = here[step]
            act = data.draw(st.sampled_from(["replace", "remove", "add"]))
            if act == "remove":
                del here[last]
            elif act == "replace":
                here[last] = data.draw(values)
            else:
                here[last][data.draw(keys)] = data.draw(values)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mistake took the place away
    found = outcome(spec)
    if isinstance(found, Experiment):
        usable(found)


METRIC_KEYS = [
    "use", "name", "kind", "better", "per", "event", "value", "score", "scorer_kind", "absent", "bounds", "numerator", "denominator", "q", "cap", "guardrail", "success", "frozen",
    "covariate", "unit", "description", "catalogue",
]  # fmt: skip
metric_values = st.one_of(
    st.sampled_from(WORDS), st.sampled_from(NUMBERS), st.booleans(),
    st.sampled_from([{"margin": {"points": 0.01}}, {"margin": {"relative": 0.1}}, {"mde": {"absolute": 1}}, {"quantile": 0.9}, {"value": 3}, {}, [0, 1],
                     {"entry": "x", "defaults": ["__class__", "measure"]}]),
)  # fmt: skip


@settings(max_examples=600)
@given(st.lists(st.dictionaries(st.sampled_from(METRIC_KEYS), metric_values, max_size=9), min_size=1, max_size=3))
def test_random_metrics(metrics: list[dict[str, Any]]) -> None:
    found = outcome({"id": "x", "control": "a", "treatments": ["b"], "metrics": metrics})
    if isinstance(found, Experiment):
        usable(found)


@pytest.mark.parametrize("data", [[], [1], "x", 3, None])
def test_what_is_no_mapping_is_refused(data: Any) -> None:
    with pytest.raises(SpecError, match="mapping"):
        Experiment.from_dict(data)


@pytest.mark.parametrize("place", [p for p in PLACES if p[-1] != "description"], ids=lambda p: ".".join(map(str, p)))
def test_a_number_too_long_to_be_written(place: tuple[Any, ...]) -> None:
    spec = copy.deepcopy(FULL)
    here: Any = spec
    for step in place[:-1]:
        here = here[step]
    here[place[-1]] = 10**5000
    assert isinstance(outcome(spec), SpecError)


@settings(max_examples=150)
@given(st.text(max_size=200))
def test_random_files(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SpecError):
        Experiment.from_toml(path)


def test_deep_toml_is_no_crash(tmp_path: Any) -> None:
    path = tmp_path / "deep.toml"
    path.write_text("x = " + "[" * 100_000)
    with pytest.raises(SpecError, match="TOML"):
        Experiment.from_toml(path)


@pytest.mark.parametrize("place", PLACES, ids=lambda p: ".".join(map(str, p)))
def test_a_value_nested_without_end(place: tuple[Any, ...]) -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    spec = copy.deepcopy(FULL)
    here: Any = spec
    for step in place[:-1]:
        here = here[step]
    here[place[-1]] = deep
    found = _read(spec)
    assert isinstance(found, SpecError)
    assert found.key
    assert len(str(found)) < 10_000
