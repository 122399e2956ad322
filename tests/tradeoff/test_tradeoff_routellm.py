"""Mixtral-8x7B against GPT-4 on GSM8K and MMLU (RouteLLM's evaluation data, Apache-2.0): the same prompts, answered by both.

The data has no token counts; a token is taken as four characters of prompt and answer, which is what both sides are charged for. Prices are
the list price of gpt-4-1106-preview (OpenAI, November 2023: $10 and $30 a million tokens) and $0.24 for Mixtral (Ong et al. 2024,
arXiv 2406.18665, section 5: what a million of its tokens cost them).
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from abtest.stats.moments import Moments
from abtest.stats.paired import paired_mean

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "routellm"
MIXTRAL, GPT4 = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the RouteLLM data is not beside the checkout")

SPEC: dict[str, Any] = {
    "id": "routellm", "baseline": "gpt4", "unit": "request",
    "arms": {"gpt4": {"technique": "prompt"}, "mixtral": {"technique": "fine_tune"}},
    "metrics": [{"name": "correct", "kind": "proportion", "event": "format_ok", "better": "higher"}],
    "quality": {"metric": "correct", "margin": {"points": 0.05}},
    "costs": {"mixtral": {"hosting_a_month": 2000.0, "evaluation": 500.0, "training": 3000.0, "months_until_retraining": 6.0}},
    "volume": {"tasks_a_month": 1_000_000},
    "prices": {"missing_counts": "zero", "model": [
        {"name": GPT4, "since": "2023-11-06", "input": 10.0, "output": 30.0, "source": "OpenAI list price, November 2023"},
        {"name": MIXTRAL, "since": "2023-11-06", "input": 0.24, "output": 0.24, "source": "arXiv 2406.18665, section 5"},
    ]},
}  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def records(table: list[dict[str, str]], name: str) -> list[dict[str, Any]]:
    """Return native interactions: one a prompt and model, right or wrong in `format_ok`."""
    out: list[dict[str, Any]] = []
    for i, row in enumerate(table):
        for arm, model in (("gpt4", GPT4), ("mixtral", MIXTRAL)):
            answer = row.get(f"{model}_response", "A")
            out.append({
                "type": "interaction", "interaction_id": f"{name}-{i}-{arm}", "request_id": f"{name}-{i}", "ts": "2024-01-01T00:00:00Z",
                "model": model, "experiment_id": "routellm", "variant": arm, "exposed": False, "surface": name,
                "input_tokens": max(len(row["prompt"]) // 4, 1), "output_tokens": max(len(answer) // 4, 1),
                "format_ok": row[model] == "True",
            })  # fmt: skip
    return out


@pytest.fixture(scope="module")
def gsm8k() -> list[dict[str, str]]:
    return rows(DATA / "gsm8k_responses.csv")


def test_gsm8k_stays_with_the_large_model_and_hinges_on_quality(ask, gsm8k):
    found = ask(records(gsm8k, "gsm8k"), SPEC)
    one = found.comparison("mixtral")
    # 63.84 % against 85.67 %, discordant 95 and 383: recomputed in the data's own README.
    assert one.facts.success_rate.value == pytest.approx(0.6384, abs=5e-5)
    assert one.baseline.success_rate.value == pytest.approx(0.8567, abs=5e-5)
    assert one.quality.value == pytest.approx((95 - 383) / 1319, rel=1e-12)
    assert (found.design, found.verdict, found.choice) == ("paired, offline", "prompt", "gpt4")
    assert found.reason == "stay with gpt4: mixtral: correct is worse by more than its margin (5 pp)"
    # Far cheaper, also a success, and it does not matter: the only input that could turn it is the margin.
    assert one.baseline.cost_per_success.value / one.facts.cost_per_success.value > 20
    assert one.break_even.status == "ok"
    assert one.break_even.upper < 1_000_000
    assert {f.input for f in one.flips} == {"quality margin"}
    (flip,) = one.flips
    assert 0.15 < flip.at < 0.25


def test_gsm8k_errors_against_an_independent_paired_test(ask, gsm8k):
    found = ask(records(gsm8k, "gsm8k"), {**SPEC, "sequential": {"method": "fixed"}}).comparison("mixtral")
    difference = [int(r[MIXTRAL] == "True") - int(r[GPT4] == "True") for r in gsm8k]
    want = paired_mean(Moments.from_arrays(difference), distribution="z")
    assert found.quality.value == pytest.approx(want.value, rel=1e-12)
    n = len(gsm8k)
    assert found.quality.std_error == pytest.approx(want.std_error * ((n - 1) / n) ** 0.5, rel=1e-9)


def test_with_a_margin_that_allows_it_the_volume_decides(ask, gsm8k):
    wide = {**SPEC, "quality": {"metric": "correct", "margin": {"points": 0.30}}}
    cheap = ask(records(gsm8k, "gsm8k"), wide)
    assert (cheap.verdict, cheap.choice) == ("fine_tune", "mixtral")
    volume = cheap.comparison("mixtral").break_even
    few = ask(records(gsm8k, "gsm8k"), {**wide, "volume": {"tasks_a_month": volume.lower * 0.9}})
    assert few.verdict == "prompt"
    assert "it is not cheaper at" in few.reason
    assert any(h.startswith("tasks a month") for h in few.hinges_on)


def test_mmlu_by_subject(ask):
    """All 57 subjects with ABTEST_CALIBRATE=full, every sixth of them by default."""
    full = os.environ.get("ABTEST_CALIBRATE") == "full"
    files = sorted((DATA / "mmlu").glob("mmlu_*.csv"))[:: 1 if full else 6]
    tables = [(f.stem, rows(f)) for f in files]
    found = ask([r for name, t in tables for r in records(t, name)], {**SPEC, "segments": [{"by": "surface"}]})
    one = found.comparison("mixtral")
    right = {m: sum(r[m] == "True" for _, t in tables for r in t) for m in (MIXTRAL, GPT4)}
    total = sum(len(t) for _, t in tables)
    assert one.facts.tasks == total
    assert one.facts.success_rate.value == pytest.approx(right[MIXTRAL] / total, rel=1e-12)
    assert one.baseline.success_rate.value == pytest.approx(right[GPT4] / total, rel=1e-12)
    if full:  # the data's README
        assert total == 14_042
        assert one.facts.success_rate.value == pytest.approx(0.6808, abs=5e-5)
        assert one.baseline.success_rate.value == pytest.approx(0.8058, abs=5e-5)
    assert (found.verdict, found.choice) == ("prompt", "gpt4")
    levels = {m.segment: m for m in one.segments}
    assert len(levels) == min(len(files), 20)
    for name, table in tables:
        level = levels.get(f"surface={name}")
        if level is not None:
            difference = sum((r[MIXTRAL] == "True") - (r[GPT4] == "True") for r in table) / len(table)
            assert level.difference.value == pytest.approx(difference, rel=1e-9, abs=1e-12)
