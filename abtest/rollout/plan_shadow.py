"""The noise floor of a shadow stage at plan time: margins that the planned pairs cannot tell from the models' own noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from abtest.analysis.shadow_more import noise_floor
from abtest.analysis.shadow_read import read_shadow
from abtest.results import Finding
from abtest.spec import Experiment
from abtest.store.store import Store


class _Looking:
    """A store that is only looked at: the shadow's constants are not frozen by a plan."""

    read_only = True

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def noise_floors(
    store: Store | None, experiment: Experiment, levels: Mapping[str, float]
) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Return the floors by metric, and a refusal for every guardrail whose margin lies below its floor.

    Args:
        store: With repeated answers of the models; None: nothing is known.
        experiment: The policy; `[shadow] pairs` says how many pairs are planned.
        levels: Metric -> control's level, for relative margins.
    """
    has_stage = any(s.stage == "shadow" for s in experiment.ramp)
    if not has_stage and experiment.shadow.pairs is None:
        return [], []
    found: dict[str, dict[str, Any]] = {}
    if store is not None:
        evidence = read_shadow(cast("Store", _Looking(store)), experiment)
        if evidence.as_of_us is not None:
            found = {row["metric"]: dict(row) for row in noise_floor(evidence)["metrics"]}
    rows: list[dict[str, Any]] = []
    refused: list[Finding] = []
    for m in experiment.guardrails:
        row = found.get(m.name)
        if row is None or row["floor"] is None or m.guardrail is None:
            continue
        margin = m.guardrail.margin
        size = margin.value * (abs(levels.get(m.name, 0.0)) if margin.kind == "relative" else 1.0)
        rows.append({**row, "margin": size, "resolved": size >= row["floor"]})
        if size < row["floor"]:
            needed = row["pairs"] * (row["floor"] / size) ** 2 if size > 0 else float("inf")
            text = (
                f"{m.name}: a margin of {size:.4g} is below the noise floor of {row['floor']:.4g}: {row['pairs']:,} pairs cannot tell it from "
                f"the models' own noise; plan about {needed:,.0f} pairs ([shadow] pairs), or a wider margin"
            )
            refused.append(Finding("below_noise_floor", "error", m.name, text))
    if not rows and (experiment.shadow.pairs is not None or has_stage):
        text = (
            "the noise floor of the shadow stage is not known: it takes repeated answers of one model to the same request "
            "(`repeat` in the logs) and [shadow] pairs"
        )
        return rows, [Finding("noise_floor_unknown", "info", None, text)]
    return rows, refused
