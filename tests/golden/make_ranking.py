"""Makes cases/ranking_trec.json: ranking metrics as trec_eval, ranx and scikit-learn compute them.

    pip install pytrec-eval-terrier ranx scikit-learn && python tests/golden/make_ranking.py

Calls: pytrec_eval.RelevanceEvaluator(qrels, {"recall", "ndcg_cut", "recip_rank"}) with the run cut at k for the reciprocal
rank; ranx.evaluate(..., make_comparable=False); sklearn.metrics.ndcg_score(y_true, y_score, k=k). No two scores of a
query are equal: how ties are broken differs between them.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytrec_eval
import ranx
from sklearn.metrics import ndcg_score

TARGET = Path(__file__).parent / "cases" / "ranking_trec.json"
CUTOFFS = (1, 5, 10, 30)


def case(seed, queries, documents, retrieved, grades):
    rng = np.random.default_rng(seed)
    qrels, run = {}, {}
    for q in range(queries):
        judged = rng.choice(documents, size=int(rng.integers(1, 20)), replace=False)
        qrels[f"q{q:02d}"] = {f"d{d:03d}": int(rng.choice(grades)) for d in judged}
        if not any(qrels[f"q{q:02d}"].values()):
            qrels[f"q{q:02d}"][f"d{judged[0]:03d}"] = 1
        found = rng.choice(documents, size=int(rng.integers(1, retrieved + 1)), replace=False)
        scores = rng.permutation(1000)[: len(found)]
        run[f"q{q:02d}"] = {f"d{d:03d}": float(s) for d, s in zip(found, scores, strict=True)}
    return qrels, run


def peers(qrels, run, k):
    names = sorted(qrels)
    cut = {q: dict(sorted(docs.items(), key=lambda item: -item[1])[:k]) for q, docs in run.items()}
    trec = pytrec_eval.RelevanceEvaluator(qrels, {f"recall.{k}", f"ndcg_cut.{k}"}).evaluate(run)
    first = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(cut)
    measures = [f"recall@{k}", f"ndcg@{k}", f"mrr@{k}"]
    other = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), measures, return_mean=False)
    order = list(ranx.Qrels(qrels).keys())
    ranx_of = {m: dict(zip(order, map(float, other[m]), strict=True)) for m in measures}
    learn = []
    for q in names:
        docs = sorted({*qrels[q], *run[q]})
        # Documents that were not retrieved stand behind all others, apart from each other and without gain at the cut.
        unseen = [d for d in docs if d not in run[q]]
        scores = {**run[q], **{d: -1.0 - i for i, d in enumerate(unseen)}}
        if len(run[q]) >= k and len(docs) > 1:
            learn.append(float(ndcg_score([[qrels[q].get(d, 0) for d in docs]], [[scores[d] for d in docs]], k=k)))
        else:
            learn.append(None)
    return {
        f"recall@{k}": {"trec_eval": [trec[q][f"recall_{k}"] for q in names], "ranx": [ranx_of[f"recall@{k}"][q] for q in names]},
        f"ndcg@{k}": {"trec_eval": [trec[q][f"ndcg_cut_{k}"] for q in names], "ranx": [ranx_of[f"ndcg@{k}"][q] for q in names],
                      "scikit_learn": learn},
        f"mrr@{k}": {"trec_eval": [first[q]["recip_rank"] for q in names], "ranx": [ranx_of[f"mrr@{k}"][q] for q in names]},
    }  # fmt: skip


def main():
    made = []
    for seed, queries, documents, retrieved, grades in (
        (1, 12, 60, 40, [0, 1]),
        (2, 12, 60, 40, [0, 1, 2, 3]),
        (3, 8, 25, 12, [0, 0, 0, 5]),
    ):
        qrels, run = case(seed, queries, documents, retrieved, grades)
        expected = {}
        for k in CUTOFFS:
            expected |= peers(qrels, run, k)
        made.append({"seed": seed, "qrels": qrels, "run": run, "cutoffs": list(CUTOFFS), "expected": expected})
    sources = {name: version(name) for name in ("pytrec-eval-terrier", "ranx", "scikit-learn")}
    TARGET.write_text(
        json.dumps({"source": sources, "made_by": "tests/golden/make_ranking.py", "cases": made}), encoding="utf-8"
    )
    print(TARGET.name, TARGET.stat().st_size)


if __name__ == "__main__":
    main()
