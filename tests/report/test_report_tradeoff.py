"""The section of recorded tradeoffs: there when one was recorded, and only then; the finding holds a safe release."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import report_samples as samples

import abtest as ab
from abtest.cli.reporting import entry_of
from abtest.release import release_findings
from abtest.report import build
from abtest.report.html import render
from abtest.store.store import Store
from abtest.tradeoff import latest, record, tradeoff
from abtest.tradeoff_spec import TradeoffSpec

sys.path.append(str(Path(__file__).parents[1] / "tradeoff"))
from tradeoff_logs import LARGE, Truth, logs, spec


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "log.ndjson"
    calls = logs({"large_prompt": LARGE, "small_tuned": Truth("small", 0.7)}, users=600)
    path.write_text("".join(json.dumps(r) + "\n" for r in calls))
    with Store(tmp_path / "s.duckdb") as made:
        made.ingest(path)
        yield made


def release():
    return ab.Experiment.from_dict({
        "id": "tuned", "control": "large_prompt", "treatments": ["small_tuned"], "warm_up_units": 100,
        "metrics": [{"use": "refusal_rate", "guardrail": {"margin": {"points": 0.2}}}],
    })  # fmt: skip


def test_no_record_no_section():
    page = render(build([samples.healthy()]))
    assert "Is it worth it?" not in page


def test_a_recorded_tradeoff_is_in_the_report_and_holds(store):
    before = ab.decide(store, release(), findings=release_findings, dry_run=True)
    assert before.decision == "promote"
    record(store, tradeoff(store, TradeoffSpec.from_dict(spec())))
    decision = ab.decide(store, release(), findings=release_findings, dry_run=True)
    assert (decision.decision, decision.reason, decision.exit_code) == ("hold", "tradeoff_dominated", 10)
    assert "small_tuned is dominated by large_prompt" in decision.summary
    page = render(build([entry_of(store, release())]))
    for words in (
        "Is it worth it?",
        "PROMPT: stay with large_prompt",
        "Break-even, tasks a month",
        "Total cost a month",
    ):
        assert words in page
    (found,) = latest(store, "tuned")
    hostile = replace(samples.healthy(), tradeoffs=[{**found, "reason": samples.HOSTILE}])
    assert samples.HOSTILE not in render(build([hostile]))
