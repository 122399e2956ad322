"""Whole decisions on simulated logs: a few seeds here, two hundred by the script."""

from __future__ import annotations

import pytest
from healthy_seeds import USERS, fits, read_log, run_all, run_seed, summarise
from score_paths import FULL

pytestmark = pytest.mark.calibration

SEEDS = range(200) if FULL else range(1)
HARMED = ("refusal-regression", "rare-refusals", "latency-regression", "cost-regression")
BROKEN = ("sample-ratio-mismatch", "contaminated", "mixed-versions", "no-control")


def test_a_healthy_candidate_is_never_halted(tmp_path):
    runs = [run_seed("healthy", seed, folder=tmp_path) for seed in SEEDS]
    halted = [r for r in runs if r["exit_code"] == 20]
    assert len(halted) <= len(runs) // 100, halted
    assert not [r for r in runs if r["exit_code"] in (30, 40)][len(runs) // 100 :]
    assert sum(r["exit_code"] == 0 for r in runs) >= 0.9 * len(runs)


@pytest.mark.parametrize("scenario", [*HARMED, *BROKEN, "better"] if FULL else ["rare-refusals", "mixed-versions"])
def test_other_scenarios_are_decided_as_they_should(scenario, tmp_path):
    for seed in range(10 if FULL else 1):
        run = run_seed(scenario, seed, users=USERS if FULL else 4000, folder=tmp_path)
        assert fits(run), run


def test_runs_are_logged_and_resumed(tmp_path, capsys):
    log = tmp_path / "runs.jsonl"
    run_all("no-control", range(2), log, users=500)
    log.write_text(log.read_text() + '{"cut short')
    run_all("no-control", range(2), log, users=500)
    assert len(read_log(log)) == 2
    assert capsys.readouterr().out.count("no-control") == 2
    assert summarise(read_log(log)).startswith("no-control: 2 runs, exit codes {30: 2}")
