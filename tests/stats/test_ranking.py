"""Ranking metrics against independent implementations, by hand and by property; the gate against its own definition."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats import ranking
from abtest.stats.ranking import GatePlan, paired_difference, paired_gate

GOLDEN = Path(__file__).parents[1] / "golden" / "cases" / "ranking_trec.json"


def arrays(case):
    """Turn qrels and run of a golden case into gains, grades and counts, queries sorted."""
    gains, grades = [], []
    for query in sorted(case["qrels"]):
        judged = case["qrels"][query]
        scores = case["run"].get(query, {})
        order = sorted(scores, key=lambda doc: (-scores[doc],))
        gains.append(([judged.get(doc, 0) for doc in order] + [0] * 60)[:60])
        grades.append(([0] * 60 + list(judged.values()))[-60:])
    relevant = np.sum(np.array(grades) > 0, axis=1)
    return np.array(gains), np.array(grades), relevant


def cases():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("index", range(len(cases())))
def test_metrics_equal_trec_eval_and_scikit_learn(index):
    case = cases()[index]
    gains, grades, relevant = arrays(case)
    for k in case["cutoffs"]:
        ours = {
            "recall": ranking.recall_at_k(gains, relevant, k),
            "ndcg": ranking.ndcg_at_k(gains, grades, k),
            "mrr": ranking.reciprocal_rank(gains, k),
        }
        for metric, values in ours.items():
            for peer, expected in case["expected"][f"{metric}@{k}"].items():
                known = [
                    i for i, value in enumerate(expected) if value is not None
                ]  # scikit-learn knows full lists only
                wanted = [expected[i] for i in known]
                np.testing.assert_allclose(values[known], wanted, rtol=0, atol=1e-12, err_msg=f"{metric}@{k} of {peer}")


def test_metrics_by_hand():
    gains = [[0, 3, 0, 1], [0, 0, 0, 0], [2, 0, 0, 0]]
    grades = [[3, 1, 1], [1, 0, 0], [2, 0, 0]]
    assert ranking.recall_at_k(gains, [3, 1, 1], 2).tolist() == [1 / 3, 0.0, 1.0]
    assert ranking.recall_at_k(gains, [3, 1, 1], 4).tolist() == [2 / 3, 0.0, 1.0]
    best = 3 + 1 / math.log2(3) + 1 / 2
    expected = (3 / math.log2(3) + 1 / math.log2(5)) / best
    assert ranking.ndcg_at_k(gains, grades, 4)[0] == pytest.approx(expected, abs=1e-15)
    steep = (7 / math.log2(3) + 1 / math.log2(5)) / (7 + 1 / math.log2(3) + 1 / 2)
    assert ranking.ndcg_at_k(gains, grades, 4, exponential=True)[0] == pytest.approx(steep, abs=1e-15)
    assert ranking.reciprocal_rank(gains).tolist() == [0.5, 0.0, 1.0]
    assert ranking.reciprocal_rank(gains, 1).tolist() == [0.0, 0.0, 1.0]


def test_a_query_without_a_relevant_document_has_no_recall_and_no_ndcg():
    assert np.isnan(ranking.recall_at_k([[0, 0]], [0], 2)).all()
    assert np.isnan(ranking.ndcg_at_k([[0, 0]], [[0, 0]], 2)).all()
    assert ranking.reciprocal_rank([[0, 0]]).tolist() == [0.0]


def test_nothing_retrieved_scores_zero():
    nothing = np.zeros((1, 0))
    assert ranking.recall_at_k(nothing, [2], 5).tolist() == [0.0]
    assert ranking.ndcg_at_k(nothing, [[1, 1]], 5).tolist() == [0.0]
    assert ranking.reciprocal_rank(nothing).tolist() == [0.0]
    assert ranking.overlap_at_k(np.full((1, 3), -1), np.full((1, 3), -1), 3).tolist() == [0.0]


def test_overlap_counts_documents_once_over_the_longer_list():
    first = [[1, 2, 3, -1], [1, 1, 2, 3], [5, 6, -1, -1]]
    second = [[3, 2, 9, 8], [1, 2, 3, 4], [6, 5, -1, -1]]
    assert ranking.overlap_at_k(first, second, 4).tolist() == [2 / 4, 3 / 4, 1.0]
    assert ranking.overlap_at_k(first, second, 2).tolist() == [1 / 2, 1 / 2, 1.0]
    np.testing.assert_array_equal(ranking.overlap_at_k(first, second, 3), ranking.overlap_at_k(second, first, 3))


def test_a_repeated_document_keeps_its_place():
    assert ranking.first_places([[4, 4, -1, 7, 4]]).tolist() == [[True, False, False, True, False]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: ranking.recall_at_k([[1, 1]], [1], 2),
        lambda: ranking.recall_at_k([[1]], [1], 0),
        lambda: ranking.ndcg_at_k([[3]], [[1]], 1),
        lambda: ranking.ndcg_at_k([[-1]], [[1]], 1),
        lambda: ranking.reciprocal_rank([[math.nan]]),
        lambda: paired_gate([1.5], margin=0.1),
        lambda: paired_gate([math.nan], margin=0.1),
        lambda: paired_gate([0.0], margin=0.0),
        lambda: paired_gate([0.0], margin=0.1, alpha=0.5),
        lambda: paired_gate([0.0], margin=0.1, plan=GatePlan(0)),
        lambda: paired_gate([[0.0]], margin=0.1),
    ],
)
def test_what_no_metric_can_take(call):
    with pytest.raises(InvalidInputError):
        call()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 12))
def test_metrics_lie_between_zero_and_one_and_grow_with_better_order(grades, k):
    row = np.array([grades])
    relevant = np.sum(row > 0, axis=1)
    worst, best = np.sort(row, axis=1), -np.sort(-row, axis=1)
    for values in (
        ranking.recall_at_k(row, relevant, k),
        ranking.ndcg_at_k(row, row, k),
        ranking.reciprocal_rank(row, k),
    ):
        assert np.isnan(values).all() or ((values >= 0).all() and (values <= 1 + 1e-12).all())
    if relevant[0]:
        assert ranking.ndcg_at_k(best, row, k)[0] == pytest.approx(1.0, abs=1e-12)
        assert ranking.ndcg_at_k(worst, row, k)[0] <= ranking.ndcg_at_k(row, row, k)[0] + 1e-12


# --- the gate ----------------------------------------------------------------------------------------------------------


def differences(seed, n=400, shift=0.0):
    rng = np.random.default_rng(seed)
    return np.clip(rng.choice([-0.5, 0.0, 0.0, 0.0, 0.5], size=n) + shift, -1, 1)


def test_verdict_and_bounds_are_the_same_test():
    for seed in range(40):
        d = differences(seed, n=100 + 20 * seed, shift=(seed % 9 - 4) * 0.02)
        for margin in (0.01, 0.05, 0.1):
            gate = paired_gate(d, margin=margin)
            assert (gate.safe_pvalue <= 0.05) == (gate.safe_lower > -margin)
            assert (gate.harm_pvalue <= 0.01) == (gate.harm_upper < -margin)
            assert gate.safe_lower <= gate.value <= gate.harm_upper
            expected = "harm" if gate.harm_pvalue <= 0.01 else "safe" if gate.safe_pvalue <= 0.05 else "inconclusive"
            assert gate.verdict == expected


def test_clear_cases():
    same = np.zeros(600)
    assert paired_gate(same, margin=0.01).verdict == "safe"
    assert paired_gate(same[:100], margin=0.01).verdict == "inconclusive"  # a hundred queries cannot rule out 1 in 100
    worse = np.where(np.arange(200) % 4 == 0, -1.0, 0.0)
    assert paired_gate(worse, margin=0.01).verdict == "harm"
    assert paired_gate(-worse, margin=0.01).verdict == "safe"
    assert paired_gate([], margin=0.01).verdict == "unknown"
    assert paired_gate([], margin=0.01).safe_pvalue is None


def test_order_does_not_matter_and_the_path_ends_where_the_gate_is():
    d, plan = differences(3, shift=0.03), GatePlan(400.0)
    shuffled = np.random.default_rng(0).permutation(d)
    assert paired_gate(d, margin=0.05) == paired_gate(shuffled, margin=0.05)
    path = ranking.log_e_above(d, -0.05, plan, 0.05)
    assert path.shape == d.shape
    assert path[-1] == pytest.approx(-math.log(paired_gate(d, margin=0.05).safe_pvalue), abs=1e-9)
    other = ranking.log_e_above(shuffled, -0.05, plan, 0.05)
    assert other[-1] == pytest.approx(path[-1], abs=1e-9)


def test_a_single_catastrophe_cannot_bankrupt_the_bets():
    plan = GatePlan(50.0)
    for mean in (-0.99, -0.5, 0.0, 0.5, 0.99):
        assert np.isfinite(ranking.log_e_above([-1.0, 1.0, -1.0], mean, plan, 0.05)).all()
        bets = ranking.gate_bets(mean, plan, 0.05)
        assert (bets.lambdas > 0).all()
        assert (1 + bets.lambdas * (-1 - mean) >= 0.1 - 1e-12).all()


def test_the_test_is_monotone_in_the_mean():
    d, plan = differences(5), GatePlan(400.0)
    values = [float(ranking.log_e_above(d, m, plan, 0.05)[-1]) for m in np.linspace(-0.95, 0.95, 39)]
    assert all(a >= b - 1e-9 for a, b in pairwise(values))


def test_the_e_value_has_mean_one_at_the_null():
    # Exactly: sum over all outcomes of two-valued differences of their probability times E.
    plan, p = GatePlan(6.0, std=0.3), 0.3
    mean = p * 1.0 + (1 - p) * -1.0
    total = 0.0
    for bits in range(2**6):
        d = np.array([1.0 if bits >> i & 1 else -1.0 for i in range(6)])
        probability = float(np.prod(np.where(d > 0, p, 1 - p)))
        total += probability * math.exp(float(ranking.log_e_above(d, mean, plan, 0.05)[-1]))
    assert total == pytest.approx(1.0, abs=1e-12)


def test_difference_has_both_intervals():
    d = differences(8, n=500, shift=0.1)
    found = paired_difference(d)
    assert found.lower < found.value < found.upper
    assert found.pvalue < 0.001
    assert found.value == pytest.approx(float(d.mean()), abs=1e-12)
    assert found.details["mixture_lower"] < found.value < found.details["mixture_upper"]
    assert found.details["wins"] + found.details["losses"] + found.details["ties"] == 500
    opposite = paired_difference(-d)
    assert (opposite.lower, opposite.upper) == (pytest.approx(-found.upper), pytest.approx(-found.lower))
    assert opposite.pvalue == pytest.approx(found.pvalue)


def test_difference_of_nothing_is_unknown():
    assert paired_difference([]).status == "no_data"
    assert paired_difference([]).value is None
    few = paired_difference([0.1] * 5)
    assert few.details["mixture_status"] == "insufficient"
    assert paired_difference(np.zeros(50)).details["mixture_status"] == "zero_variance"
    assert paired_difference(np.zeros(50)).pvalue == 1.0
