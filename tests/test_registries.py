"""One new file each: every registry is walked, and what it holds keeps its contract."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from abtest import metrics
from abtest.analysis import checks
from abtest.errors import AbtestError
from abtest.ingest import registry
from abtest.metrics.base import Measure, MetricSpec, kinds
from abtest.report import sections
from abtest.results import Check
from abtest.rollout.actuators import actuator_types
from abtest.store.engines import engines

EXAMPLES = {
    "proportion": {"event": "refused"},
    "mean": {"value": "latency_ms"},
    "ratio": {"numerator": "cost_usd", "denominator": "output_tokens"},
    "quantile": {"value": "latency_ms", "q": 0.5},
    "count": {},
    "distribution": {"value": "response_chars"},
}


@pytest.mark.parametrize("name", sorted(kinds()))
def test_metric_kinds(name):
    kind = kinds()[name]
    assert issubclass(kind, MetricSpec)
    assert kind.kind_name == name
    assert kind.__doc__
    metric = kind.model_validate({"name": "m", "kind": name, "better": "lower", **EXAMPLES[name]})
    measure = metric.measure()
    assert isinstance(measure, Measure)
    assert measure.scale >= 1
    with pytest.raises(ValueError, match="extra"):
        kind.model_validate({"name": "m", "kind": name, "better": "lower", **EXAMPLES[name], "surplus": 1})


def test_every_metric_file_is_a_kind_or_a_part():
    files = {m.name for m in pkgutil.iter_modules(metrics.__path__)}
    parts = {"base", "catalog", "catalog_entries", "expressions", "missing", "prices", "segments"}
    assert files - set(kinds()) == parts


@pytest.mark.parametrize("name", sorted(engines()))
def test_engines(name):
    engine = engines()[name]
    assert engine.name == name
    assert isinstance(engine.exact, bool)
    assert callable(engine.rows)
    assert callable(engine.keep)


@pytest.mark.parametrize("name", sorted(actuator_types()))
def test_actuators(name):
    actuator = actuator_types()[name]
    assert actuator.name == name
    assert callable(actuator.check)
    assert callable(actuator.halt)


@pytest.mark.parametrize("check", checks.checks(), ids=lambda c: c.name)
def test_checks(check):
    assert isinstance(check.blocking, bool)
    module = importlib.import_module(check.run.__module__)
    assert module.__doc__
    assert check.name == module.NAME


def test_checks_run_on_an_empty_store(tmp_path):
    from abtest.analysis.analyze import analyze
    from abtest.spec import Experiment
    from abtest.store.store import Store
    from tests.test_spec import BASE

    with Store(tmp_path / "s.duckdb") as store:
        analysis = analyze(store, Experiment.from_dict(BASE))
    assert {c.name for c in analysis.checks} == {c.name for c in checks.checks()}
    assert all(isinstance(c, Check) and c.status in ("no_data", "no_share") for c in analysis.checks)


def test_report_sections_have_keys_and_titles():
    found = sections.all_sections()
    assert len({s.key for s in found}) == len(found) >= 5


def test_log_formats():
    found = registry.formats()
    assert {"native", "otel", "litellm"} <= set(found)
    assert all(found[name].name == name for name in found)


def test_every_error_class_has_a_code_and_an_exit_code():
    def walk(cls: type[AbtestError]) -> list[type[AbtestError]]:
        return [cls, *(found for sub in cls.__subclasses__() for found in walk(sub))]

    classes = walk(AbtestError)
    assert len({c.code for c in classes}) == len(classes)
    assert all(c.exit_code in (1, 2, 30, 40) for c in classes)
    for cls in classes:
        error = cls("it is wrong", file="f", key="k", hint="write this")
        assert str(error) == "f: k: it is wrong (write this)"
        assert error.to_dict()["schema"] == "abtest.error/1"
