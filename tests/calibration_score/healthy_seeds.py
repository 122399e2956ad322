"""Whole decisions on simulated logs: simulate, ingest, decide, count exit codes.

    python tests/calibration_score/healthy_seeds.py --scenario healthy --seeds 0:200 --log runs.jsonl

One JSON line a run is appended to the log; runs that are in it already are skipped, so it can be stopped and resumed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from abtest.rollout.decide import decide_with_analysis
from abtest.simulate import SCENARIOS, simulate, write
from abtest.spec import Experiment
from abtest.store.store import Store

USERS = 20_000


def run_seed(scenario: str, seed: int, *, users: int = USERS, folder: Path | None = None) -> dict[str, Any]:
    """Return what was decided on one simulated experiment, with the bounds of every guardrail.

    `harm_looks` counts, per guardrail, the hourly looks at which the mixture alone would have halted or held, so that a
    false alarm which went away before the last look is seen too.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as temp:
        out = Path(temp)
        write(simulate(scenario, users=users, seed=seed), out)
        experiment = Experiment.from_toml(out / "experiment.toml")
        with Store(out / "abtest.duckdb") as store:
            store.ingest(out / "logs")
            decision, analysis = decide_with_analysis(store, experiment)
    metrics = {}
    for m in analysis.metrics:
        margin = 0.0 if m.kind == "quantile" else m.margin
        past = [p for p in m.series if margin is not None and p.harm_lower is not None and p.harm_lower > margin]
        metrics[m.metric] = {
            "verdict": m.verdict, "status": m.status, "method": m.method, "estimate": m.estimate, "margin": m.margin,
            "harm_lower": m.harm_lower, "harm_upper": m.harm_upper, "superior": m.superior, "harm_looks": len(past),
            "rate_ratio": m.details.get("rate_ratio"),
        }  # fmt: skip
    return {
        "scenario": scenario, "seed": seed, "users": users, "exit_code": decision.exit_code, "decision": decision.decision,
        "reason": decision.reason, "summary": decision.summary, "metrics": metrics,
        "checks": {c.name: c.status for c in analysis.checks}, "seconds": round(time.perf_counter() - started, 2),
    }  # fmt: skip


def fits(run: dict[str, Any]) -> bool:
    """Return whether the decision is the scenario's, and its sentence names the metric at fault."""
    story = SCENARIOS[run["scenario"]]
    named = story.metric is None or story.decision == "ship" or story.metric in run["summary"].replace(" ", "_")
    return run["exit_code"] == story.exit_code and named


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return the runs of a log; a line cut short by a crash is dropped."""
    runs = []
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return runs


def run_all(scenario: str, seeds: range, log: Path, *, users: int = USERS) -> None:
    """Run what the log does not hold yet, one line a run."""
    done = {(r["scenario"], r["seed"], r["users"]) for r in read_log(log)}
    for seed in seeds:
        if (scenario, seed, users) in done:
            continue
        run = run_seed(scenario, seed, users=users)
        with log.open("a") as out:
            out.write(json.dumps(run) + "\n")
        print(scenario, seed, run["exit_code"], run["reason"], run["seconds"], run["summary"], flush=True)


def summarise(runs: list[dict[str, Any]]) -> str:
    """Return one line a scenario: runs, exit codes, reasons, how many were as expected."""
    lines = []
    for name in dict.fromkeys(r["scenario"] for r in runs):
        mine = [r for r in runs if r["scenario"] == name]
        codes = dict(sorted(Counter(r["exit_code"] for r in mine).items()))
        reasons = dict(Counter(r["reason"] for r in mine))
        lines.append(
            f"{name}: {len(mine)} runs, exit codes {codes}, reasons {reasons}, as expected {sum(map(fits, mine))}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), required=True)
    parser.add_argument("--seeds", default="0:10", help="from:to")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--log", type=Path, required=True)
    args = parser.parse_args()
    first, last = (int(s) for s in args.seeds.split(":"))
    for one in args.scenario:
        run_all(one, range(first, last), args.log, users=args.users)
    print(summarise(read_log(args.log)))
