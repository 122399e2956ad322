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
    from abtest.lineage.index_compare import index_compare
    from abtest.lineage.index_drift import index_drift
    from abtest.lineage.index_results import IndexCompare, IndexDrift
    from abtest.lineage.timeline import Timeline, timeline
    from abtest.lineage.versions import Versions, versions
    from abtest.records import Assignment, Interaction, Score
    from abtest.release import decide, release_findings, watch
    from abtest.results import Analysis, Decision, Estimate, Finding, MetricResult
    from abtest.rollout.calibrate import calibrate
    from abtest.rollout.calibrate_results import Calibration
    from abtest.rollout.plan import plan
    from abtest.rollout.plan_assume import Assumptions
    from abtest.rollout.plan_results import Plan
    from abtest.rollout.replay import Replay, replay
    from abtest.rollout.shadow import shadow
    from abtest.rollout.shadow_results import ShadowAnalysis
    from abtest.spec import Experiment
    from abtest.store.store import Store
    from abtest.tradeoff import tradeoff
    from abtest.tradeoff.results import Tradeoff
    from abtest.tradeoff_spec import TradeoffSpec

_HOME = {
    "AbtestError": "abtest.errors",
    "Analysis": "abtest.results",
    "Assignment": "abtest.records",
    "Assumptions": "abtest.rollout.plan_assume",
    "Calibration": "abtest.rollout.calibrate_results",
    "Decision": "abtest.results",
    "Estimate": "abtest.results",
    "Experiment": "abtest.spec",
    "Finding": "abtest.results",
    "IndexCompare": "abtest.lineage.index_results",
    "IndexDrift": "abtest.lineage.index_results",
    "Interaction": "abtest.records",
    "MetricResult": "abtest.results",
    "Plan": "abtest.rollout.plan_results",
    "Replay": "abtest.rollout.replay",
    "Score": "abtest.records",
    "ShadowAnalysis": "abtest.rollout.shadow_results",
    "Store": "abtest.store.store",
    "Timeline": "abtest.lineage.timeline",
    "Tradeoff": "abtest.tradeoff.results",
    "TradeoffSpec": "abtest.tradeoff_spec",
    "Versions": "abtest.lineage.versions",
    "analyze": "abtest.analysis.analyze",
    "calibrate": "abtest.rollout.calibrate",
    "decide": "abtest.release",
    "index_compare": "abtest.lineage.index_compare",
    "index_drift": "abtest.lineage.index_drift",
    "plan": "abtest.rollout.plan",
    "release_findings": "abtest.release",
    "replay": "abtest.rollout.replay",
    "shadow": "abtest.rollout.shadow",
    "timeline": "abtest.lineage.timeline",
    "tradeoff": "abtest.tradeoff",
    "versions": "abtest.lineage.versions",
    "watch": "abtest.release",
}

__all__ = [
    "AbtestError", "Analysis", "Assignment", "Assumptions", "Calibration", "Decision", "Estimate", "Experiment",
    "Finding", "IndexCompare", "IndexDrift", "Interaction", "MetricResult", "Plan", "Replay", "Score", "ShadowAnalysis",
    "Store", "Timeline", "Tradeoff", "TradeoffSpec", "Versions", "analyze", "calibrate", "decide", "index_compare", "index_drift", "plan",
    "release_findings", "replay", "shadow", "timeline", "tradeoff", "versions", "watch",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'abtest' has no attribute {name!r}")
    module = importlib.import_module(_HOME[name])
    # A package that is called like its function can be called itself: importing one of its parts must not hide the other.
    value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
