"""abtest: is this LLM release safe, is it better, and stop it when it is not.

    import abtest as ab
    store = ab.Store("abtest.duckdb")
    store.ingest("logs/2026-11-22/*.jsonl")
    experiment = ab.Experiment.from_toml("experiment.toml")
    ab.analyze(store, experiment)
    ab.decide(store, experiment)

Names are loaded when they are used (PEP 562), so that importing one part does not load the whole house.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abtest.analysis.analyze import analyze
    from abtest.errors import AbtestError
    from abtest.records import Assignment, Interaction, Score
    from abtest.results import Analysis, Decision, Estimate, Finding, MetricResult
    from abtest.rollout.decide import decide
    from abtest.spec import Experiment
    from abtest.store.store import Store

_HOME = {
    "AbtestError": "abtest.errors",
    "Analysis": "abtest.results",
    "Assignment": "abtest.records",
    "Decision": "abtest.results",
    "Estimate": "abtest.results",
    "Experiment": "abtest.spec",
    "Finding": "abtest.results",
    "Interaction": "abtest.records",
    "MetricResult": "abtest.results",
    "Score": "abtest.records",
    "Store": "abtest.store.store",
    "analyze": "abtest.analysis.analyze",
    "decide": "abtest.rollout.decide",
}

__all__ = [
    "AbtestError", "Analysis", "Assignment", "Decision", "Estimate", "Experiment", "Finding", "Interaction", "MetricResult",
    "Score", "Store", "analyze", "decide",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'abtest' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
