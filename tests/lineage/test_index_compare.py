"""index-compare: the rules for what is missing, doubled or not judged, and the gate, on real retrieval."""

import math

import numpy as np
import pytest
from index_tools import embedded, write

import abtest as ab
from abtest.errors import InvalidInputError, LogReadError, NoDataError
from abtest.lineage.index_compare import index_compare
from abtest.lineage.index_files import Export
from abtest.lineage.index_runs import read_golden, read_run


@pytest.fixture(scope="module")
def real():
    return embedded()


def lists(count, hit=lambda i: True, name="q"):
    """Runs in which query i finds its document d{i} first, or something else."""
    return [{"query_id": f"{name}{i}", "ids": [f"d{i}" if hit(i) else "x", "y"]} for i in range(count)]


def judged(count):
    return [{"query_id": f"q{i}", "relevant": [f"d{i}"]} for i in range(count)]


# --- real retrieval ----------------------------------------------------------------------------------------------------


def test_a_half_rebuilt_index_loses_recall_and_is_halted(real):
    old, half = real.run(real.queries_a, real.a), real.run(real.queries_a, real.half())
    found = index_compare(real.golden, {"kb": old}, {"half": half}, margin=0.05)
    (candidate,) = found.candidates
    recall = candidate.differences["recall"]
    # The loss is measured with its interval, and it is the loss that counting by hand gives.
    hits = [[r["query_id"] in r["ids"] for r in run] for run in (old, half)]
    assert recall["estimate"] == pytest.approx(np.mean(hits[1]) - np.mean(hits[0]))
    assert recall["ci_lower"] < recall["estimate"] < recall["ci_upper"] < -0.2
    assert (found.decision, found.exit_code, candidate.reason) == ("halt", 20, "recall_worse")
    assert "Keep the old index" in found.summary
    assert candidate.overlap < 0.7


def test_the_same_index_with_rounding_is_promoted_once_there_are_enough_queries(real):
    packed = np.rint(real.a * 127 / np.abs(real.a).max(axis=1, keepdims=True))
    packed /= np.linalg.norm(packed, axis=1, keepdims=True)
    old, new = real.run(real.queries_a, real.a), real.run(real.queries_a, packed)
    strict = index_compare(real.golden, {"kb": old}, {"int8": new})
    assert (strict.decision, strict.exit_code) == ("hold", 10)  # 120 queries cannot rule out a loss of 1 in 100
    assert strict.candidates[0].gate["queries_needed"] > 300
    wide = index_compare(real.golden, {"kb": old}, {"int8": new}, margin=0.05)
    assert (wide.decision, wide.exit_code, wide.best) == ("promote", 0, "int8")
    assert wide.candidates[0].gate["safe_lower"] > -0.05


def test_the_better_model_on_your_own_queries_is_found(real):
    weak = real.run(real.queries_b, real.b)
    found = index_compare(
        real.golden, {"weak": weak}, {"strong": real.run(real.queries_a, real.a), "half": real.run(real.queries_a, real.half()), "same": weak}
    )  # fmt: skip
    by_name = {c.name: c for c in found.candidates}
    assert by_name["strong"].differences["recall"]["adjusted_pvalue"] < 1e-4
    assert by_name["same"].differences["recall"]["estimate"] == 0.0
    assert (found.decision, found.best) == ("promote", "strong")


# --- definitions -------------------------------------------------------------------------------------------------------


def test_missing_queries_count_zero_and_are_not_dropped():
    found = index_compare(judged(10), {"old": lists(10)}, {"new": lists(6)})
    (c,) = found.candidates
    assert (c.recall, c.missing, c.retrieved) == (0.6, 4, 6)
    assert c.differences["recall"]["estimate"] == pytest.approx(-0.4)
    assert any("does not answer 4 of 10" in n for n in found.notes)


def test_empty_judgements_are_in_no_mean_and_said():
    golden = [*judged(4), {"query_id": "none", "relevant": []}, {"query_id": "zero", "relevant": {"d1": 0, "d2": -1}}]
    found = index_compare(golden, {"old": lists(4)}, {"new": [*lists(4), {"query_id": "zero", "ids": ["d1"]}]})
    assert found.golden == {"queries": 6, "judged": 4, "empty": 2, "first_empty": ["none", "zero"], "documents": 4}
    assert found.old.recall == 1.0
    with pytest.raises(NoDataError, match="no golden query"):
        index_compare(golden[4:], {"old": lists(4)}, {"new": lists(4)})


def test_a_doubled_document_keeps_its_place_and_gains_nothing():
    golden = [{"query_id": "q0", "relevant": {"a": 1, "b": 1}}]
    old = [{"query_id": "q0", "ids": ["a", "b"]}]
    found = index_compare(golden, {"old": old}, {"new": [{"query_id": "q0", "ids": ["a", "a", "b"]}]}, k=2)
    (c,) = found.candidates
    assert (c.recall, c.repeated) == (0.5, 1)
    assert c.ndcg == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert c.overlap == 0.5


def test_queries_that_are_not_golden_are_left_out():
    found = index_compare(judged(3), {"old": lists(3)}, {"new": [*lists(3), *lists(5, name="other")]})
    assert found.candidates[0].recall == 1.0
    assert any("5 queries that are not golden" in n for n in found.notes)


def test_graded_judgements_move_ndcg_alone():
    golden = [{"query_id": f"q{i}", "relevant": {f"d{i}": 3, "y": 1}} for i in range(5)]
    swapped = [{"query_id": f"q{i}", "ids": ["y", f"d{i}"]} for i in range(5)]
    found = index_compare(golden, {"old": lists(5)}, {"new": swapped})
    (c,) = found.candidates
    assert c.recall == found.old.recall == 1.0
    assert c.mrr == 1.0
    assert c.ndcg == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))
    assert c.overlap == 1.0


def test_cut_off_counts():
    late = [{"query_id": f"q{i}", "ids": ["x", "y", f"d{i}"]} for i in range(5)]
    assert index_compare(judged(5), {"old": lists(5)}, {"new": late}, k=2).candidates[0].mrr == 0.0
    assert index_compare(judged(5), {"old": lists(5)}, {"new": late}, k=3).candidates[0].mrr == pytest.approx(1 / 3)


def test_latency_and_cost_are_shown_where_they_are_known():
    numbers = [{**row, "latency_ms": 10.0 * (i + 1), "cost_usd": 0.001} for i, row in enumerate(lists(20))]
    found = index_compare(judged(20), {"old": lists(20)}, {"new": numbers})
    (c,) = found.candidates
    assert (c.latency_p50, c.latency_p95, c.cost_per_1000) == (105.0, pytest.approx(190.5), pytest.approx(1.0))
    assert found.old.latency_p50 is None


# --- several candidates ------------------------------------------------------------------------------------------------


def test_several_candidates_are_adjusted_by_holm():
    old = lists(400)
    runs = {f"n{j}": lists(400, lambda i, j=j: i % 40 != j) for j in range(3)}  # each loses 10 of 400
    alone = index_compare(judged(400), {"old": old}, {"n0": runs["n0"]}, margin=0.05)
    three = index_compare(judged(400), {"old": old}, runs, margin=0.05)
    raw = alone.candidates[0].gate["safe_pvalue"]
    assert alone.candidates[0].safe_pvalue == raw
    assert [c.safe_pvalue for c in three.candidates] == [pytest.approx(min(1, 3 * raw))] * 3
    assert "after Holm over 3 candidates" in three.summary


def test_the_best_of_those_that_may_go_is_named():
    runs = {"bad": lists(600, lambda i: i % 3 != 0), "good": lists(600), "fair": lists(600, lambda i: i % 300 != 0)}
    found = index_compare(judged(600), {"old": lists(600)}, runs, margin=0.05)
    assert [c.decision for c in found.candidates] == ["halt", "promote", "promote"]
    assert (found.decision, found.best) == ("promote", "good")
    assert found.exit_code == 0
    assert [f.code for f in found.findings] == ["index_worse", "index_safe", "index_safe"]


def test_about_so_many_queries_are_needed():
    found = (
        index_compare(judged(200), {"old": lists(200)}, {"new": lists(200)}, margin=0.01)
        .candidates[0]
        .gate["queries_needed"]
    )
    assert index_compare(judged(found), {"old": lists(found)}, {"new": lists(found)}, margin=0.01).decision == "hold"
    more = math.ceil(1.5 * found)
    assert index_compare(judged(more), {"old": lists(more)}, {"new": lists(more)}, margin=0.01).decision == "promote"
    worse = index_compare(judged(40), {"old": lists(40)}, {"new": lists(40, lambda i: i % 20 > 0)}, margin=0.01)
    assert (worse.decision, worse.candidates[0].gate["queries_needed"]) == ("hold", None)  # more of this would never do


# --- files -------------------------------------------------------------------------------------------------------------


def test_trec_files_are_read_as_trec_eval_reads_them(tmp_path):
    (tmp_path / "qrels.txt").write_text("q1 0 d1 2\nq1 0 d2 0\nq2 0 d9 1\n")
    (tmp_path / "run.txt").write_text("q1 Q0 d2 1 0.5 t\nq1 Q0 d1 2 0.9 t\nq1 Q0 d7 3 0.5 t\nq2 Q0 d9 1 1e-3 t\n")
    assert read_golden(Export(tmp_path / "qrels.txt")).grades == {"q1": {"d1": 2.0, "d2": 0.0}, "q2": {"d9": 1.0}}
    run = read_run(Export(tmp_path / "run.txt"), "t")
    assert run.lists == {"q1": ["d1", "d7", "d2"], "q2": ["d9"]}  # by score; of equal scores the later name first


def test_rows_of_single_documents_are_put_in_order(tmp_path):
    rows = [
        {"query_id": "q", "doc_id": "third", "rank": 3, "latency_ms": 7}, {"query_id": "q", "doc_id": "first", "rank": 1},
        {"query_id": "q", "doc_id": "second", "rank": 2}, {"query_id": "s", "doc_id": "low", "score": 0.1},
        {"query_id": "s", "doc_id": "high", "score": 0.8}, {"query_id": "p", "doc_id": "a"}, {"query_id": "p", "doc_id": "b"},
    ]  # fmt: skip
    run = read_run(Export(write(tmp_path / "run.ndjson", rows)), "r")
    assert run.lists == {"q": ["first", "second", "third"], "s": ["high", "low"], "p": ["a", "b"]}
    assert run.latency == {"q": 7.0}


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"query_id": "q", "ids": "d1"}], "ids must be a list"),
        ([{"query_id": "q", "ids": ["a"]}, {"query_id": "q", "ids": ["b"]}], "stands there twice"),
        ([{"ids": ["a"]}], "row 1: query_id is missing"),
        ([{"query_id": "q", "ids": ["a"], "latency_ms": -1}], "must not be negative"),
        ([{"query_id": "q", "ids": ["a"]}, {"query_id": "q", "doc_id": "b"}], "a list and single documents"),
        ([{"query_id": "q", "ids": [None]}], "ids is missing"),
    ],
)
def test_a_bad_row_of_a_run_is_an_error_and_never_dropped(rows, match, tmp_path):
    with pytest.raises(LogReadError, match=match):
        read_run(Export(write(tmp_path / "run.ndjson", rows)), "r")


def test_a_golden_set_may_not_contradict_itself(tmp_path):
    rows = [{"query_id": "q", "doc_id": "d", "relevance": 1}, {"query_id": "q", "doc_id": "d", "relevance": 2}]
    with pytest.raises(LogReadError, match="judged twice"):
        read_golden(Export(write(tmp_path / "g.ndjson", rows)))
    assert read_golden(Export(rows[:1] * 2)).grades == {"q": {"d": 1.0}}


def test_parquet_runs_and_golden_sets(tmp_path):
    import polars

    polars.DataFrame({"query_id": ["q0", "q1"], "relevant": [["d0"], ["d1"]]}).write_parquet(tmp_path / "g.parquet")
    polars.DataFrame({"query_id": ["q0", "q1"], "ids": [["d0", "x"], ["y"]], "latency_ms": [5, None]}).write_parquet(
        tmp_path / "old [1].parquet"
    )
    found = index_compare(tmp_path / "g.parquet", tmp_path / "old [1].parquet", {"new": lists(2)})
    assert found.old.recall == 0.5
    assert found.old.latency_p50 == 5.0
    assert found.candidates[0].recall == 1.0


def test_a_run_that_answers_nothing_is_no_data():
    with pytest.raises(NoDataError, match="answers none"):
        index_compare(judged(3), {"old": lists(3)}, {"new": lists(3, name="other")})


@pytest.mark.parametrize("wrong", [{"k": 0}, {"margin": 0.0}, {"margin": 1.0}, {"alpha": 0.6}, {"std": 0.0}])
def test_what_cannot_be_asked(wrong):
    with pytest.raises(InvalidInputError):
        index_compare(judged(3), {"old": lists(3)}, {"new": lists(3)}, **wrong)


def test_two_runs_need_two_names():
    with pytest.raises(InvalidInputError, match="one name"):
        index_compare(judged(3), {"kb": lists(3)}, {"kb": lists(3)})
    with pytest.raises(InvalidInputError, match="no new index"):
        index_compare(judged(3), {"kb": lists(3)}, {})


# --- what it looks like ------------------------------------------------------------------------------------------------


def test_result_can_be_shown():
    found = ab.index_compare(judged(50), {"old": lists(50)}, {"<b>new</b>": lists(50, lambda i: i % 2 == 0)})
    data = found.to_dict()
    assert data["schema"] == "abtest.index_compare/1"
    assert data["candidates"][0]["decision"] == "halt"
    assert found.summary in repr(found)
    assert "<b>new</b>" not in found._repr_html_()
    frame = found.to_polars()
    assert frame.height == 2
    assert frame["recall_ci_upper"][1] < 0
    words = found.plot().to_dict()["usermeta"]["abtest"]["description"]
    assert "The margin is -0.01" in words
