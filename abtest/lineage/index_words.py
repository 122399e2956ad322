"""The table of an index comparison: a row an index, the old one first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abtest.display import NOTHING, Cell, Column, Table, format_pvalue, format_share, shorten

if TYPE_CHECKING:
    from abtest.lineage.index_results import IndexCompare

_TONES = {"promote": "good", "halt": "bad"}


def compare_table(result: IndexCompare) -> Table:
    """Return the table of an `IndexCompare`: metrics, change of recall with its interval, latency, cost, decision."""
    k = result.k
    columns = ("index", Column(f"recall@{k}", "right"), Column("change", "right"), Column("p (Holm)", "right"), Column(f"nDCG@{k}", "right"),
               Column("change", "right"), Column("MRR", "right"), Column("overlap", "right"), Column("p50 / p95 ms", "right"),
               Column("$ per 1,000", "right"), "decision")  # fmt: skip
    rows: list[list[Any]] = []
    for c in (result.old, *result.candidates):
        recall, ndcg = c.differences.get("recall"), c.differences.get("ndcg")
        rows.append([
            shorten(c.name, 40), _plain(c.recall), change(recall), format_pvalue(recall.get("adjusted_pvalue") if recall else None),
            _plain(c.ndcg), change(ndcg), _plain(c.mrr), NOTHING if c.overlap is None else format_share(round(c.overlap, 3)),
            _times(c.latency_p50, c.latency_p95), NOTHING if c.cost_per_1000 is None else f"{c.cost_per_1000:.4g}",
            Cell(c.decision or "in use", _TONES.get(c.decision or "", "muted")),
        ])  # fmt: skip
    level = format_share(1 - result.alpha)
    note = f"Changes are new minus old on the same queries, with {level} anytime intervals by betting; p-values are adjusted for {len(result.candidates)} candidate(s)."
    flat = [_flat(c.to_dict()) for c in (result.old, *result.candidates)]
    return Table(columns, rows, notes=[note], data=flat).without_empty_columns()


def change(difference: Mapping[str, Any] | None) -> str:
    """Return a difference with its interval: "-0.021 [-0.043, +0.001]"; a dash without one."""
    if not difference or difference.get("estimate") is None:
        return NOTHING
    return f"{difference['estimate']:+.3f} [{difference['ci_lower']:+.3f}, {difference['ci_upper']:+.3f}]"


def _plain(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _times(p50: float | None, p95: float | None) -> str:
    return NOTHING if p50 is None or p95 is None else f"{p50:,.0f} / {p95:,.0f}"


def _flat(candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a candidate on one level, for a data frame."""
    flat = {key: value for key, value in candidate.items() if not isinstance(value, Mapping)}
    for metric, difference in candidate["differences"].items():
        flat |= {f"{metric}_{key}": value for key, value in difference.items()}
    return flat | {f"gate_{key}": value for key, value in candidate["gate"].items()}
