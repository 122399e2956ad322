"""Cost per successful task, saving and their errors equal brute force over the records, to 1e-9."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tradeoff_oracle as oracle
from tradeoff_logs import LARGE, PRICES, SMALL, Truth, logs, spec

BOOK = {p["name"]: p for p in PRICES}
ARMS = ("large_prompt", "small_tuned")


def dirty(records: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Return the records with what real logs have: missing tokens, logged costs, unknown outcomes, cached tokens, no unit."""
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for r in records:
        row, luck = dict(r), rng.random()
        row["cached_input_tokens"] = int(row["input_tokens"] * rng.choice([0, 0.5, 0.9]))
        if luck < 0.05:
            row.pop("output_tokens")
        elif luck < 0.10:
            row["cost_usd"] = round(float(rng.lognormal(-6.5, 0.4)), 9)  # the store counts in billionths
        elif luck < 0.14:
            row["format_ok"] = None
        elif luck < 0.16:
            row["model"] = "not in the book"
        elif luck < 0.18:
            row["cached_input_tokens"] = row["input_tokens"] + 1
        out.append(row)
    rng.shuffle(out)  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("paired", [False, True], ids=["split", "paired"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equals_brute_force(ask, seed, paired):
    arms = {"large_prompt": Truth("large", 0.8, retry=0.4), "small_tuned": Truth("small", 0.7, retry=0.5)}
    records = dirty(logs(arms, users=120, rows=5, paired=paired, seed=seed), seed)
    found = ask(records, spec()).comparison("small_tuned")
    sums, seen, _ = oracle.matrix(records, BOOK, ARMS, paired=paired)
    want = oracle.economics(sums)
    assert found.design == ("paired, live" if paired else "randomised")
    assert found.baseline.cost_per_success.value == pytest.approx(want["per_success_0"], rel=1e-9)
    assert found.facts.cost_per_success.value == pytest.approx(want["per_success_1"], rel=1e-9)
    assert found.facts.cost_per_success.std_error == pytest.approx(want["per_success_error_1"], rel=1e-9)
    assert found.baseline.cost_per_task.value == pytest.approx(want["per_task_0"], rel=1e-9)
    assert found.facts.success_rate.value == pytest.approx(want["rate_1"], rel=1e-9)
    assert found.saving.value == pytest.approx(want["saving"], rel=1e-9)
    assert found.saving.std_error == pytest.approx(want["saving_error"], rel=1e-9)
    assert (found.baseline.units, found.facts.units) == tuple(seen.sum(axis=0))


def test_equals_brute_force_on_the_share_of_unknown_costs(ask):
    records = dirty(logs({"large_prompt": LARGE, "small_tuned": SMALL}, users=100, seed=9), 9)
    found = ask(records, spec())
    tasks = oracle.tasks(records, BOOK)
    for facts in (found.comparisons[0].baseline, found.comparisons[0].facts):
        own = [t for (arm, _), t in tasks.items() if arm == facts.name]
        assert facts.tasks == len(own)
        assert facts.no_cost == pytest.approx(sum(t["cost"] is None for t in own) / len(own))
    check = next(c for c in found.checks if c.name == "cost_known")
    assert check.status == "warning"


def test_retries_and_failures_are_paid_for(ask):
    """The same answers, half of them only at the second attempt: a success costs as much more as was spent."""
    plain = logs({"large_prompt": LARGE, "small_tuned": Truth("small", 0.9, retry=0.0)}, users=80, seed=4)
    doubled = list(plain)
    for r in plain:
        if r["variant"] == "small_tuned" and r["interaction_id"].endswith("-0") and int(r["request_id"][-1]) % 2:
            doubled.append(
                {
                    **r,
                    "interaction_id": f"{r['interaction_id']}x",
                    "is_error": True,
                    "format_ok": None,
                    "ts": "2026-10-31T00:00:00Z",
                }
            )
    before, after = (ask(records, spec()).comparison("small_tuned").facts for records in (plain, doubled))
    spent = [oracle.economics(oracle.matrix(r, BOOK, ARMS, paired=False)[0])["per_success_1"] for r in (plain, doubled)]
    assert after.success_rate.value == before.success_rate.value
    assert after.attempts == pytest.approx(1.5)
    assert after.cost_per_success.value / before.cost_per_success.value == pytest.approx(spent[1] / spent[0], rel=1e-9)
    assert after.cost_per_success.value > 1.4 * before.cost_per_success.value


def test_failed_calls_without_tokens_may_be_free(ask):
    records = logs({"large_prompt": LARGE, "small_tuned": SMALL}, users=80, seed=5)
    for r in records:
        if r["is_error"]:
            r["output_tokens"] = None
    unknown = ask(records, spec()).comparison("small_tuned").facts
    free = ask(records, spec(population={"failed_calls": "free"})).comparison("small_tuned").facts
    assert unknown.no_cost > 0.05
    assert free.no_cost == 0
    assert free.cost_per_success.value > 0
