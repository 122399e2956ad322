"""May the alias move to a new index? Old and new on the same golden queries, with a gate on recall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from abtest.display import format_pvalue, format_share, shorten
from abtest.errors import InvalidInputError, NoDataError
from abtest.lineage.index_files import Export, Given, Several, named_inputs
from abtest.lineage.index_results import Candidate, IndexCompare
from abtest.lineage.index_runs import Golden, Lists, Numbering, Run, read_golden, read_run
from abtest.results import Finding, Severity
from abtest.stats.multiplicity import holm
from abtest.stats.ranking import (
    GatePlan,
    ndcg_at_k,
    overlap_at_k,
    paired_difference,
    paired_gate,
    recall_at_k,
    reciprocal_rank,
)

Array = npt.NDArray[np.float64]

EXIT = {"promote": 0, "hold": 10, "halt": 20}
METRICS = ("recall", "ndcg", "mrr")
_NAMED = 5
_CODES: Mapping[str, tuple[str, Severity, str]] = {
    "promote": ("index_safe", "info", "recall_safe"),
    "hold": ("index_not_proven", "error", "recall_not_proven"),
    "halt": ("index_worse", "error", "recall_worse"),
}


def index_compare(
    golden: Given,
    old: Given | Mapping[str, Given],
    new: Several,
    *,
    k: int = 10,
    margin: float = 0.01,
    alpha: float = 0.05,
    alpha_halt: float = 0.01,
    planned_queries: int | None = None,
    std: float = 0.2,
) -> IndexCompare:
    """Compare what indexes retrieve for golden queries, and decide whether a new one may replace the old one.

    The gate: promote when a mean loss of recall@k of `margin` or more is ruled out (one-sided, `alpha`), halt when it is
    proven (one-sided, `alpha_halt`), else hold. Both are anytime-valid by betting on the paired differences: the golden
    set may grow and be looked at after every query. With several new indexes the p-values are adjusted by Holm, so that
    choosing among them costs nothing.

    Args:
        golden: Judgements: query_id with relevant ({doc: grade} or [doc]), or with doc_id and relevance; or TREC qrels.
        old: The run of the index in use: query_id with ids (rank order), maybe latency_ms and cost_usd; or a row a
            document; or a TREC run. A mapping {name: run} names it.
        new: One or more runs of new indexes, named by a mapping {name: run}, else by their files.
        k: Cut-off of every metric.
        margin: Largest mean loss of recall@k that is accepted, in (0, 1).
        alpha: Level of "not worse", and of the intervals.
        alpha_halt: Level of "worse".
        planned_queries: Size of the golden set when it is complete; default: as it is. Give it when it still grows.
        std: Planned standard deviation of a query's difference; it decides how soon, never how often wrong.

    Raises:
        LogReadError: a file that cannot be read whole, or a row that cannot be used.
        NoDataError: no golden query has a relevant document, or a run answers none of them.
        InvalidInputError: k, margin or a level out of range, no new run, or two runs of one name.
    """
    exports = [Export(golden)]
    truth = read_golden(exports[0])
    if not truth.judged:
        raise NoDataError(
            "no golden query has a relevant document", file=exports[0].name, hint="grades above 0 are relevant"
        )
    runs = [_read(name, given, exports) for name, given in (*_named(old, "old"), *_named(new, "new"))]
    _check(runs, k)
    numbering = Numbering(truth, truth.judged, k)
    lists = [numbering.lists(run) for run in runs]
    for run, found in zip(runs, lists, strict=True):
        if found.missing == len(truth.judged):
            raise NoDataError(
                f"{run.name} answers none of the golden queries", hint="do both name queries by query_id?"
            )
    scores = [_scores(found, *numbering.grades(), k) for found in lists]
    plan = GatePlan(float(planned_queries or len(truth.judged)), std)
    candidates = [_candidate(run, found, own) for run, found, own in zip(runs, lists, scores, strict=True)]
    changed = [
        _compared(c, lists[0], found, scores[0], own, plan, (k, margin, alpha, alpha_halt))
        for c, found, own in zip(candidates[1:], lists[1:], scores[1:], strict=True)
    ]
    decided = _decided(changed, candidates[0].name, (k, margin, alpha, alpha_halt))
    return _result(truth, candidates[0], decided, exports, runs, (k, margin, alpha, alpha_halt))


# -- reading ------------------------------------------------------------------------------------------------------------


def _named(given: Several, default: str) -> list[tuple[str, Given]]:
    return [
        (name or (_stem(run) if isinstance(run, (str, Path)) else default), run) for name, run in named_inputs(given)
    ]


def _stem(path: str | Path) -> str:
    return Path(path).name.split(".")[0] or str(path)


def _read(name: str, given: Given, exports: list[Export]) -> Run:
    exports.append(Export(given))
    return read_run(exports[-1], name)


def _check(runs: Sequence[Run], k: int) -> None:
    if len(runs) < 2:
        raise InvalidInputError("there is no new index to compare", hint="give at least one new run")
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"two runs have one name: {', '.join(names)}", hint="name them, as NAME=FILE")
    if k < 1:
        raise InvalidInputError(f"k must be at least 1, not {k}", hint="for example 10")


# -- measuring ----------------------------------------------------------------------------------------------------------


def _scores(found: Lists, grades: Array, relevant: Array, k: int) -> dict[str, Array]:
    return {
        "recall": recall_at_k(found.gains, relevant, k),
        "ndcg": ndcg_at_k(found.gains, grades, k),
        "mrr": reciprocal_rank(found.gains, k),
    }


def _candidate(run: Run, found: Lists, scores: Mapping[str, Array]) -> Candidate:
    latency = np.array(list(run.latency.values()))
    cost = list(run.cost.values())
    recall, ndcg, mrr = (math.fsum(scores[m]) / len(scores[m]) for m in METRICS)
    return Candidate(
        run.name, recall, ndcg, mrr, len(found.ids) - found.missing, found.missing, found.repeated,
        latency_p50=float(np.quantile(latency, 0.5)) if latency.size else None,
        latency_p95=float(np.quantile(latency, 0.95)) if latency.size else None,
        cost_per_1000=1000.0 * math.fsum(cost) / len(cost) if cost else None,
    )  # fmt: skip


def _compared(
    candidate: Candidate, old: Lists, new: Lists, before: Mapping[str, Array], after: Mapping[str, Array],
    plan: GatePlan, asked: tuple[int, float, float, float],
) -> Candidate:  # fmt: skip
    k, margin, alpha, alpha_halt = asked
    differences: dict[str, Any] = {}
    for metric in METRICS:
        found = paired_difference(after[metric] - before[metric], alpha=alpha, plan=plan)
        differences[metric] = {
            "estimate": found.value, "ci_lower": found.lower, "ci_upper": found.upper, "std_error": found.std_error,
            "pvalue": found.pvalue, "adjusted_pvalue": None, "log_e_value": found.log_e_value, "alpha": alpha,
            "method": found.method, "status": found.status, **found.details,
        }  # fmt: skip
    gate = paired_gate(after["recall"] - before["recall"], margin=margin, alpha=alpha, alpha_halt=alpha_halt, plan=plan)
    overlap = overlap_at_k(old.ids, new.ids, k)
    needed = _needed(after["recall"] - before["recall"], margin, alpha) if gate.verdict == "inconclusive" else None
    details = {**gate.to_dict(), "queries_needed": needed, "planned_queries": plan.queries, "planned_std": plan.std}
    return replace(candidate, differences=differences, gate=details, overlap=float(overlap.mean()))


def _needed(differences: Array, margin: float, alpha: float) -> int | None:
    """Return about how many golden queries would prove "not worse", if the rest is like these; None when none would.

    The larger of two floors: of a normal test with the seen variance (1.4 times its sample, the price of looking at any
    time), and of a bet of 0.9 that never loses, log(1/alpha) / log(1 + 0.9 margin').
    """
    room = float(differences.mean()) + margin
    if room <= 0.0:
        return None
    normal = 1.4 * float(differences.var()) * (1.645 + 0.84) ** 2 / room**2
    return math.ceil(max(normal, math.log(1.0 / alpha) / math.log1p(0.9 * room)))


# -- deciding -----------------------------------------------------------------------------------------------------------


def _decided(candidates: Sequence[Candidate], old: str, asked: tuple[int, float, float, float]) -> list[Candidate]:
    """Decide about each candidate by its adjusted p-values; harm comes first."""
    _, _, alpha, alpha_halt = asked
    safe = holm([c.gate["safe_pvalue"] for c in candidates], alpha).adjusted
    harm = holm([c.gate["harm_pvalue"] for c in candidates], alpha_halt).adjusted
    adjusted = {m: holm([c.differences[m]["pvalue"] for c in candidates], alpha).adjusted for m in METRICS}
    decided: list[Candidate] = []
    for i, c in enumerate(candidates):
        worse, proven = harm[i], safe[i]
        decision = "hold"
        if worse is not None and worse <= alpha_halt:
            decision = "halt"
        elif proven is not None and proven <= alpha:
            decision = "promote"
        differences = {m: {**c.differences[m], "adjusted_pvalue": adjusted[m][i]} for m in METRICS}
        known = replace(
            c,
            differences=differences,
            safe_pvalue=proven,
            harm_pvalue=worse,
            decision=decision,
            reason=_CODES[decision][2],
        )
        decided.append(replace(known, summary=_sentence(known, old, asked, len(candidates))))
    return decided


def _sentence(c: Candidate, old: str, asked: tuple[int, float, float, float], several: int) -> str:
    """Return the decision about a decided candidate in one sentence: what changed, what decided, what to do."""
    k, margin, alpha, alpha_halt = asked
    d, gate = c.differences["recall"], c.gate
    name, than = shorten(c.name, 40), shorten(old, 40)
    change = f"recall@{k} {d['estimate']:+.3f} [{d['ci_lower']:+.3f}, {d['ci_upper']:+.3f}] on {gate['n']:,} queries"
    halted = c.decision == "halt"
    level, pvalue = (alpha_halt, c.harm_pvalue) if halted else (alpha, c.safe_pvalue)
    bound = f"upper bound {gate['harm_upper']:+.4f}" if halted else f"lower bound {gate['safe_lower']:+.4f}"
    # With several candidates the adjusted p-value decides, not the bound of one.
    why = (
        f"{bound} at {format_share(level)}"
        if several == 1
        else f"p {format_pvalue(pvalue)} after Holm over {several} candidates"
    )
    if c.decision == "promote":
        end = "Keep the old index until the ramp is over"
        return f"PROMOTE {name}: {change}; a loss of {margin:g} against {than} is ruled out ({why}). {end}"
    if halted:
        return f"HALT {name}: {change}; it is worse than {than} by more than {margin:g} ({why}). Keep the old index"
    needed = gate["queries_needed"]
    more = (
        f"; about {needed:,} golden queries would, if the rest is like these" if needed and needed > gate["n"] else ""
    )
    return f"HOLD {name}: {change}; these do not rule out a loss of {margin:g} against {than} ({why}){more}"


def _result(
    golden: Golden, old: Candidate, candidates: Sequence[Candidate], exports: Sequence[Export], runs: Sequence[Run],
    asked: tuple[int, float, float, float],
) -> IndexCompare:  # fmt: skip
    k, margin, alpha, alpha_halt = asked
    promoted = sorted(
        (c for c in candidates if c.decision == "promote"), key=lambda c: (-(c.recall or 0), -(c.ndcg or 0), c.name)
    )
    best = promoted[0] if promoted else None
    decision = "promote" if best else "halt" if all(c.decision == "halt" for c in candidates) else "hold"
    shown = best or next(c for c in candidates if c.decision == decision)
    findings = tuple(Finding(*_CODES[str(c.decision)][:2], None, c.summary) for c in candidates)
    return IndexCompare(
        decision=decision, summary=shown.summary, findings=findings, k=k, margin=margin, alpha=alpha, alpha_halt=alpha_halt,
        golden={
            "queries": len(golden.grades), "judged": len(golden.judged), "empty": len(golden.empty), "first_empty": golden.empty[:_NAMED],
            "documents": len({d for docs in golden.grades.values() for d, g in docs.items() if g > 0}),
        },
        old=old, candidates=tuple(candidates), best=best.name if best else None, inputs=tuple(e.to_dict() for e in exports),
        notes=tuple(_notes(golden, (old, *candidates), runs)), exit_code=EXIT[decision],
    )  # fmt: skip


def _notes(golden: Golden, candidates: Sequence[Candidate], runs: Sequence[Run]) -> list[str]:
    notes: list[str] = []
    if golden.empty:
        notes.append(f"{len(golden.empty):,} golden queries have no relevant document: they are in no mean.")
    for c, run in zip(candidates, runs, strict=True):
        name = shorten(c.name, 40)
        if c.missing:
            notes.append(
                f"{name} does not answer {c.missing:,} of {len(golden.judged):,} golden queries: they count as 0."
            )
        if c.repeated:
            notes.append(f"{name} retrieved a document twice {c.repeated:,} times: the second place gains nothing.")
        if others := len(run.lists.keys() - golden.grades.keys()):
            notes.append(f"{name} answers {others:,} queries that are not golden: they are left out.")
    return notes
