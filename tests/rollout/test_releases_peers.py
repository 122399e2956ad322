"""Where other tools go wrong (RELEASES §6), each on logs that are written, ingested and decided: we do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from abtest.analysis.analyze import analyze
from abtest.analysis.times import to_us
from abtest.errors import SpecError
from abtest.rollout.decide import decide
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.store import Store
from tests.cli.runner import call
from tests.rollout.release_cases import (
    AB,
    COST,
    COST_SAFE,
    ERRORS,
    LOGGED,
    SAFE,
    START,
    calls,
    decide_on,
    decided,
    ingest,
    metric,
)

BAD = {"refused": lambda i: i % 3 == 0}
"""A third of the treatment's answers are refusals: harm beyond doubt."""


def codes(decision) -> dict[str | None, str]:
    """Return the finding of each metric."""
    return {f.metric: f.code for f in decision.findings if f.metric}


def test_flagger_rolls_back_when_the_metrics_are_down(simulated):
    """A release whose logs stopped is held, loudly, and nothing is rolled back: silence is no proof of harm."""
    logs = simulated("healthy", users=300)
    flag = logs.flags.read_bytes()
    experiment = Experiment.from_dict({
        **logs.experiment().model_dump(mode="json", exclude_none=True, exclude_defaults=True), "freshness": {"max_age": "1h"},
    })  # fmt: skip
    experiment._folder = logs.folder
    with logs.store() as store:
        decision = decide(store, experiment)
    assert (decision.decision, decision.reason, decision.exit_code) == ("hold", "stale", 40)
    assert logs.flags.read_bytes() == flag
    assert "hours old" in decision.summary or "days old" in decision.summary


def test_argo_counts_no_measurement_as_success(tmp_path):
    """The guardrail's column is NULL in every row, everything else is fine: no promotion."""
    decision = decide_on(tmp_path, calls("a", 1000), calls("b", 1000), metrics=[*LOGGED["metrics"], COST])
    assert (decision.decision, decision.reason, decision.exit_code) == ("hold", "no_data", 40)
    assert codes(decision) == {"refusals": "safe", "cost": "no_data"}


def test_argo_aborts_on_an_empty_result(tmp_path):
    """No row of this experiment at all: hold, not halt."""
    decision = decide_on(tmp_path, calls("a", 10), id="another", ramp=[{"stage": "canary", "share": 0.5}])
    assert (decision.decision, decision.reason, decision.exit_code) == ("hold", "no_data", 40)


def test_argo_promotes_an_inconclusive_canary(tmp_path):
    decision = decide_on(
        tmp_path, calls("a", 150, refused=lambda i: i % 20 == 0), calls("b", 150, refused=lambda i: i % 15 == 0)
    )
    assert (decision.decision, decision.reason) == ("hold", "inconclusive"), decision.summary
    assert codes(decision) == {"refusals": "inconclusive"}


def test_kayenta_scores_a_group_without_data_100(tmp_path):
    """Cost is logged in control only: the metric group of the canary has no data at all."""
    rows = calls("a", 1000, cost_usd=lambda i: 0.01 + i % 7 / 1000), calls("b", 1000)
    decision = decide_on(tmp_path, *rows, metrics=[*LOGGED["metrics"], COST])
    assert (decision.decision, decision.exit_code) == ("hold", 40)
    assert codes(decision)["cost"] == "no_data"
    assert "in b" in decision.summary


def test_kayenta_passes_sparse_errors_of_0_against_2(tmp_path):
    """Two errors of 60 against none: neither safe nor harm, and never a pass."""
    rows = calls("a", 60, is_error=False), calls("b", 60, is_error=lambda i: i < 2)
    decision = decide_on(tmp_path, *rows, metrics=[ERRORS])
    assert (decision.decision, decision.reason) == ("hold", "inconclusive"), decision.summary


def test_mann_whitney_passes_a_regression_of_100_times(tmp_path):
    """Seven of ten points a hundred times as high, three a little lower: ranks see too little, the mean sees it at once."""
    control = np.arange(1.0, 11.0)
    canary = np.where(np.arange(10) < 7, 100.0 * control, control / 10)
    assert stats.mannwhitneyu(canary, control, alternative="greater").pvalue > 0.02  # Kayenta asks for 0.98
    rows = (
        calls("a", 600, cost_usd=lambda i: 0.001 * float(control[i % 10])),
        calls("b", 600, cost_usd=lambda i: 0.001 * float(canary[i % 10])),
    )
    decision = decide_on(tmp_path, *rows, metrics=[COST])
    assert (decision.decision, decision.reason) == ("halt", "harm"), decision.summary
    assert decision.findings[0].severity == "critical"


def test_growthbook_hides_a_failing_guardrail_behind_the_sample_ratio(tmp_path):
    decision = decide_on(tmp_path, calls("a", 2000), calls("b", 900, **BAD))
    assert (decision.decision, decision.reason, decision.exit_code) == ("halt", "harm", 20)
    assert {"harm", "sample_ratio_mismatch"} <= {f.code for f in decision.findings}


def test_growthbook_ships_what_is_inconclusive():
    """Better on the goal, but a guardrail is still open; and safe, but not shown to be better."""
    better = metric("help", "safe", superior=True, pvalue=1e-6)
    open_guardrail = decided(metric("refusals", "inconclusive"), COST_SAFE, better, stage=AB)
    assert (open_guardrail.decision, open_guardrail.reason) == ("hold", "inconclusive")
    open_goal = decided(SAFE, COST_SAFE, metric("help", "inconclusive", estimate=0.02, pvalue=0.08), stage=AB)
    assert (open_goal.decision, open_goal.reason) == ("hold", "not_superior")


def test_gbstats_has_p_1_when_control_has_no_event(tmp_path):
    rows = calls("a", 400, is_error=False), calls("b", 400, is_error=lambda i: i % 10 == 0)
    decision = decide_on(tmp_path, *rows, metrics=[ERRORS])
    assert (decision.decision, decision.reason) == ("halt", "harm"), decision.summary
    result = decision.metrics[0]
    assert result.control_value == 0
    assert result.pvalue != 1


def test_a_retry_reuses_a_stale_failed_run(tmp_path):
    """What was decided is never taken from an earlier run: new rows, new evidence, new id; the old entry stays as it was."""
    with Store(tmp_path / "abtest.duckdb") as store:
        experiment = Experiment.from_dict(LOGGED)
        ingest(store, tmp_path, calls("a", 10), calls("b", 10))
        failed = decide(store, experiment)
        ingest(store, tmp_path, calls("a", 1500, first=10), calls("b", 1500, first=10), name="more")
        retried = decide(store, experiment)
        entries = ledger.entries(store.connection, kind="decision")
    assert (failed.decision, retried.decision) == ("hold", "promote"), retried.summary
    assert failed.decision_id != retried.decision_id
    assert [e.body["decision"] for e in entries] == ["hold", "promote"]
    assert entries[0].body["evidence_sha256"] != entries[1].body["evidence_sha256"]


def test_aborted_siblings_are_shown_as_successful(tmp_path, capsys):
    """One guardrail halts, another was still open: it stays open in what is shown. So does a release beside a halted one."""
    rows = (
        calls("a", 400, cost_usd=lambda i: 0.01 * (1 + i % 9)),
        calls("b", 400, cost_usd=lambda i: 0.0115 * (1 + i % 9), **BAD),
    )
    decision = decide_on(tmp_path, *rows, metrics=[*LOGGED["metrics"], COST])
    assert decision.decision == "halt"
    assert codes(decision) == {"refusals": "harm", "cost": "inconclusive"}
    with Store(tmp_path / "abtest.duckdb") as store:
        decide(store, Experiment.from_dict({**LOGGED, "id": "sibling"}))
    shown = call(capsys, "status", "--db", tmp_path / "abtest.duckdb", "--json").json["experiments"]
    assert {row["experiment"]: row["decision"] for row in shown} == {"e": "halt", "sibling": "hold"}


def test_a_misnamed_metric_always_passes():
    for wrong in ({"event": "refussed"}, {"event": "erors > 0"}, {"kind": "proporton"}, {"name": ""}):
        with pytest.raises(SpecError):
            Experiment.from_dict({**LOGGED, "metrics": [{**LOGGED["metrics"][0], **wrong}]})
    with pytest.raises(SpecError):
        Experiment.from_dict({**LOGGED, "metrics": ["refusal_raet"]})


def test_false_aborts_at_low_traffic(tmp_path):
    """Four of 40 canary users against one of 40: seven points more, a threshold aborts. So would the first ten minutes."""
    with Store(tmp_path / "abtest.duckdb") as store:
        experiment = Experiment.from_dict({**LOGGED, "warm_up_units": 30})
        ingest(
            store,
            tmp_path,
            calls("a", 40, refused=lambda i: i == 35),
            calls("b", 40, refused=lambda i: i in (3, 5, 22, 33)),
        )
        decisions = [decide(store, experiment, as_of_us=at) for at in _moments(9, 19, 29, 39)]
        final = analyze(store, experiment).metrics[0]
    assert {d.decision for d in decisions} == {"hold"}, [d.summary for d in decisions]
    assert final.verdict == "inconclusive"
    assert final.estimate is not None
    assert final.estimate > 0.05


def _moments(*minutes: int) -> list[int]:
    return [to_us(START) + m * 60_000_000 for m in minutes]
