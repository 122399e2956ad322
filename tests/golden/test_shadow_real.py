"""Published numbers of real models that answered the same prompts, through the whole path: logs, store, pairs, decision.

The data stand beside the checkout (their READMEs say from where, at which commit, under which licence) and are not part of it.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import abtest as ab
from abtest.analysis.shadow_more import ppi_of

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not beside the checkout")
FULL = os.environ.get("ABTEST_CALIBRATE") == "full"
START = datetime(2026, 11, 1, tzinfo=UTC)
Record = dict[str, Any]


def answer(request: str, arm: str, seen: str, number: int, **fields: Any) -> Record:
    """Return one model's answer as a native record: control's was seen, the other came later as a silent replay."""
    at = START + timedelta(seconds=number + (0 if arm == seen else 86_400))
    row = {
        "interaction_id": f"{request}:{arm}", "ts": at.isoformat(), "model": arm, "experiment_id": "real", "variant": arm,
        "request_id": request, "session_id": request, "unit_id": request, "exposed": arm == seen, **fields,
    }  # fmt: skip
    return {k: v for k, v in row.items() if v is not None}


def rated(request: str, arm: str, name: str, value: float, kind: str = "judge", **fields: Any) -> Record:
    """Return a score of that answer."""
    return {
        "type": "score", "score_id": f"{request}:{arm}:{name}:{kind}", "ts": START.isoformat(), "name": name, "scorer_kind": kind,
        "value": value, "interaction_id": f"{request}:{arm}", **fields,
    }  # fmt: skip


def shadow_of(
    folder: Path, records: Iterable[Record], control: str, candidate: str, *metrics: Any, **keys: Any
) -> ab.ShadowAnalysis:
    """Write native logs, ingest them, and decide."""
    file = folder / "log.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    with ab.Store(folder / "abtest.duckdb") as store:
        report = store.ingest(file)
        assert not report.quarantined
        experiment = ab.Experiment.from_dict(
            {"id": "real", "control": control, "treatments": [candidate], "unit": "session", "metrics": list(metrics), **keys}
        )  # fmt: skip
        return ab.shadow(store, experiment)


# -- WildBench: one judge, four models ---------------------------------------------------------------------------

GPT, PHI, GEMMA7, GEMMA2 = "gpt-3.5-turbo-0125", "Phi-3-mini-128k-instruct", "gemma-7b-it", "gemma-2b-it"
SCORE = {
    "name": "score", "kind": "mean", "score": "wildbench", "bounds": [1, 10], "better": "higher",
    "guardrail": {"margin": {"absolute": 0.2}, "action": "hold"},
}  # fmt: skip
LENGTH = {
    "name": "length", "kind": "mean", "value": "CASE WHEN response_chars > 0 THEN response_chars END", "better": "lower",
}  # fmt: skip


def wildbench(*models: str) -> Iterator[Record]:
    for model in models:
        for n, row in enumerate(json.loads((DATA / "wildbench" / f"{model}.json").read_text(encoding="utf-8"))):
            text, task = row["model_output"], row["session_id"]
            yield answer(task, model, models[0], n, response_chars=len(text), finish_reason="stop" if text else None)
            yield rated(task, model, "wildbench", float(row["score"]))


def published(model: str) -> dict[str, Any]:
    return json.loads((DATA / "wildbench" / "score.json").read_text(encoding="utf-8"))[model]


@pytest.mark.parametrize(("control", "candidate", "known"), [(GPT, GEMMA7, "control"), (GEMMA7, GEMMA2, "treatment")])
def test_wildbench_leaderboard_means_to_the_last_digit(
    tmp_path: Path, control: str, candidate: str, known: str
) -> None:
    """All scored tasks of gpt-3.5 and gemma-2b were answered by gemma-7b too, so the pairs' mean is the leaderboard's."""
    got = shadow_of(tmp_path, wildbench(control, candidate), control, candidate, SCORE, LENGTH)
    want = published(control if known == "control" else candidate)
    assert got.pairs == want["total"]
    value = got.metric("score").control_value if known == "control" else got.metric("score").treatment_value
    assert value == pytest.approx(want["score"], rel=1e-15)
    assert ((value or 0) - 5) * 2 == pytest.approx(want["adjusted_score"], rel=1e-12)


def test_wildbench_gains_from_pairing(tmp_path: Path) -> None:
    """gpt-3.5 against Phi-3 on 1,021 shared tasks: +0.326, correlation 0.55, paired p 3.9e-10, unpaired 2.3e-5 (the data's README)."""
    got = shadow_of(tmp_path, wildbench(PHI, GPT), PHI, GPT, SCORE, LENGTH)
    m = got.metric("score")
    assert (got.pairs, got.units, m.pairs) == (1021, 1021, 1021)
    assert m.estimate == pytest.approx(0.326, abs=5e-4)
    assert m.correlation == pytest.approx(0.55, abs=0.005)
    assert m.paired["pvalue"] == pytest.approx(3.9e-10, rel=0.02)
    assert m.unpaired["pvalue"] == pytest.approx(2.3e-5, rel=0.05)
    gain = m.gain or 0.0
    assert gain == pytest.approx(2.2, abs=0.1)  # 2.2 times fewer prompts than two groups would need
    width = {side: d["ci_upper"] - d["ci_lower"] for side, d in (("paired", m.paired), ("unpaired", m.unpaired))}
    assert width["unpaired"] / width["paired"] == pytest.approx(np.sqrt(gain), rel=0.05)
    assert 0 < m.paired["ci_lower"] < m.paired["fixed_lower"] < m.estimate
    assert m.unpaired["ci_lower"] < m.paired["ci_lower"]
    assert (m.verdict, got.decision, got.exit_code) == ("safe", "promote", 0)
    assert (m.relative_estimate or 0) > 0


def test_a_worse_model_is_stopped_but_not_by_the_judge_alone(tmp_path: Path) -> None:
    halting = {**SCORE, "guardrail": {"margin": {"absolute": 0.2}, "action": "halt"}}
    got = shadow_of(tmp_path, wildbench(GPT, GEMMA2), GPT, GEMMA2, halting)
    assert got.metric("score").verdict == "harm"
    assert (got.decision, got.reason, got.exit_code) == ("hold", "harm_hold", 10)
    assert "uncalibrated_judge" in {f.code for f in got.findings}


# -- RouteLLM: Mixtral and GPT-4 ---------------------------------------------------------------------------------

MIXTRAL, GPT4 = "mixtral-8x7b", "gpt-4-1106"
MODELS = {MIXTRAL: "mistralai/Mixtral-8x7B-Instruct-v0.1", GPT4: "gpt-4-1106-preview"}
CORRECT = {
    "name": "correct", "kind": "proportion", "score": "correct", "better": "higher", "guardrail": {"margin": {"points": 0.02}},
}  # fmt: skip


def graded(rows: Iterable[dict[str, str]], prefix: str = "q") -> Iterator[Record]:
    for n, row in enumerate(rows):
        for model, column in MODELS.items():
            yield answer(f"{prefix}{n}", model, MIXTRAL, n)
            yield rated(f"{prefix}{n}", model, "correct", float(row[column] == "True"), kind="code")


def test_gsm8k_mcnemar(tmp_path: Path) -> None:
    with (DATA / "routellm" / "gsm8k_responses.csv").open(encoding="utf-8", newline="") as file:
        got = shadow_of(tmp_path, graded(csv.DictReader(file)), MIXTRAL, GPT4, CORRECT)
    m = got.metric("correct")
    assert (got.pairs, m.control_value, m.treatment_value) == (1319, 842 / 1319, 1130 / 1319)  # 63.84 % and 85.67 %
    table = next(t for t in got.mcnemar if t["metric"] == "correct")
    assert (table["only_control"], table["only_treatment"]) == (95, 383)
    assert table["pvalue"] < 1e-40
    beta = math.lgamma(96) + math.lgamma(384) - math.lgamma(480)
    assert table["log_e_value"] == pytest.approx(beta + 478 * math.log(2), rel=1e-12)
    assert 'sharp null "no request changes"' in table["note"]
    assert (m.verdict, got.decision) == ("safe", "promote")
    assert m.ci_lower is not None
    assert m.ci_lower > 0.15


@pytest.mark.skipif(not FULL, reason="28,000 answers: with ABTEST_CALIBRATE=full")
def test_mmlu_at_full_size(tmp_path: Path) -> None:
    """57 subjects, 14,042 questions: 68.08 % and 80.58 %."""

    def rows() -> Iterator[dict[str, str]]:
        for path in sorted((DATA / "routellm" / "mmlu").glob("*.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                yield from csv.DictReader(file)

    got = shadow_of(tmp_path, graded(rows()), MIXTRAL, GPT4, CORRECT)
    m = got.metric("correct")
    assert got.pairs == 14_042
    assert (round((m.control_value or 0) * 100, 2), round((m.treatment_value or 0) * 100, 2)) == (68.08, 80.58)


def test_mt_bench_counts_first_turns_unless_told(tmp_path: Path) -> None:
    """80 conversations of two turns: 8.3406 and 9.2281 over both; the second turn was asked after each model's own answer."""
    rows: list[Record] = []
    for line in (DATA / "routellm" / "judgements.jsonl").read_text(encoding="utf-8").splitlines():
        r = json.loads(line)
        model = next((m for m, name in MODELS.items() if name == r["model"]), None)
        if model is None:
            continue
        request = f"q{r['question_id']}.{r['turn']}"
        rows.append(
            {**answer(request, model, MIXTRAL, r["question_id"], turn=r["turn"]), "session_id": f"q{r['question_id']}"}
        )
        rows.append(rated(request, model, "mt_bench", float(r["score"])))
    metric = {"name": "score", "kind": "mean", "score": "mt_bench", "bounds": [1, 10], "better": "higher"}
    for turns, pairs in (("all", 160), ("first", 80)):
        (tmp_path / turns).mkdir()
        got = shadow_of(tmp_path / turns, rows, MIXTRAL, GPT4, metric, shadow={"turns": turns})
        m = got.metric("score")
        assert (got.pairs, got.units) == (pairs, 80)
        assert "off_policy_turns" in {f.code for f in got.findings}
        if turns == "all":
            assert (round(m.control_value or 0, 4), round(m.treatment_value or 0, 4)) == (8.3406, 9.2281)


# -- PandaLM: a judge on all pairs, three people --------------------------------------------------------------------

WIN = {"name": "wins", "kind": "mean", "score": "win", "scorer_kind": "judge", "bounds": [0, 1], "better": "higher"}


def pandalm() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (people, judge, known): how often the second answer wins, ties a half; 25 unreadable verdicts are not known."""
    people = json.loads((DATA / "pandalm" / "testset-v1.json").read_text(encoding="utf-8"))
    judge = json.loads((DATA / "pandalm" / "gpt-3.5-turbo-testset-v1.json").read_text(encoding="utf-8"))
    verdict = {r["idx"]: str(r["gpt_result"]) for r in judge}
    value = {"1": 0.0, "2": 1.0, "Tie": 0.5, "0": 0.5}
    votes = np.array([[value[str(r[f"annotator{k}"])] for k in (1, 2, 3)] for r in people])
    said = [verdict[r["idx"]] for r in people]
    known = np.array([s in value for s in said])
    return np.median(votes, axis=1), np.array([value.get(s, 0.5) for s in said]), known


def test_a_few_human_labels_through_the_whole_path(tmp_path: Path) -> None:
    from abtest.stats.ppi import ppi_mean

    people, judge, known = pandalm()
    labelled = set(np.random.default_rng(7).permutation(len(people))[:200].tolist())
    rows: list[Record] = []
    for n, (y, f, ok) in enumerate(zip(people, judge, known, strict=True)):
        for arm, human, machine in (("first", 1 - y, 1 - f), ("second", y, f)):
            rows.append(answer(f"p{n}", arm, "first", n))
            failed = {**rated(f"p{n}", arm, "win", 0.0), "error_type": "unparsable"}
            del failed["value"]
            rows.append(rated(f"p{n}", arm, "win", machine) if ok else failed)
            if n in labelled:
                rows.append(rated(f"p{n}", arm, "people", human, kind="human"))
    got = shadow_of(tmp_path, rows, "first", "second", WIN, shadow={"labels": {"wins": "people"}})
    chosen = np.array([n in labelled for n in range(len(people))]) & known
    want = ppi_mean(people[chosen], judge[chosen], judge[known & ~chosen])
    second = got.ppi["wins"]["treatment"]
    assert (second["n_labelled"], second["n_judged"]) == (chosen.sum(), (known & ~chosen).sum())
    assert (second["value"], second["lower"], second["upper"]) == pytest.approx(
        (want.value, want.lower, want.upper), rel=1e-9
    )
    paired = got.ppi["wins"]["paired_difference"]
    assert paired["value"] == pytest.approx(2 * (want.value or 0) - 1, rel=1e-9)  # one answer's win is the other's loss
    assert got.metric("wins").pairs == known.sum() == 974


RUNS = 2000 if FULL else 80


@pytest.mark.parametrize("labels", [50, 100, 300, 900])
def test_coverage_and_width_with_few_labels(labels: int) -> None:
    """Random subsets of people's labels (seed 11): the interval holds the mean of all labels, and is narrower than labels alone.

    Labels are drawn without replacement from 974, so intervals for a population cover more often the more labels there are. Of 2,000
    subsets they cover in 93.4, 95.6, 99.1 and 100 %: with 50 labels the paper's normal interval is a little short (labels alone: 94.4 %).
    """
    people, judge, known = (a for a in pandalm())
    people, judge = people[known], judge[known]
    truth, rng = people.mean(), np.random.default_rng(11)
    covered, width, alone = 0, [], []
    for _ in range(RUNS):
        chosen = np.zeros(len(people), dtype=bool)
        chosen[rng.permutation(len(people))[:labels]] = True
        rows = [
            {"arm": arm, "label": int(2 * y) if c else None, "judged": int(2 * f), "units": 1}
            for arm in ("control", "treatment", "difference") for y, f, c in zip(people, judge, chosen, strict=True)
        ]  # fmt: skip
        found = ppi_of(rows, 2, 0.05)
        assert found is not None
        arm = found["treatment"]
        covered += arm["lower"] <= truth <= arm["upper"]
        width.append(arm["upper"] - arm["lower"])
        alone.append(2 * 1.959964 * people[chosen].std(ddof=1) / np.sqrt(labels))
    level = 0.93 if labels == 50 else 0.95
    assert covered / RUNS >= level - 3 * np.sqrt(level * (1 - level) / RUNS)
    ratio = np.mean(width) / np.mean(alone)
    assert ratio < (0.95 if labels <= 300 else 1.02)
