"""What ran in a release, by surface and arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from abtest.analysis.times import to_us
from abtest.lineage.seen import COLUMNS, PLACES, Asked, Seen, history
from abtest.spec import ArmManifest, Experiment
from abtest.store.store import Store


def calls_of_release(
    store: Store, experiment: Experiment, as_of_us: int, max_file: int, *, hours: bool = False
) -> list[Seen]:
    """Return what ran in a release, by surface and arm.

    `hours`: hour by hour. Calls that name the experiment and their variant; where the logs name none, calls that run what an arm declares. Calls
    whose arm only an assignment tells are not among them (the check `mixed_versions` reads those).
    """
    where = experiment.where_expression()
    asked = Asked(
        min(as_of_us, to_us(experiment.end)) if experiment.end else as_of_us,
        max_file,
        to_us(experiment.start) if experiment.start else 0,
        by=PLACES,
        hours=hours,
        experiment=experiment.id,
        where=where if where is not None and where.columns <= COLUMNS else None,
    )
    rows = [r for r in history(store, asked) if r.variant in experiment.arm_names]
    declared = {arm: m for arm, m in experiment.arms.items() if m.declared}
    if rows or len(declared) < len(experiment.arm_names):
        return rows
    other = history(store, replace(asked, experiment=None))
    return [replace(r, variant=arm) for r in other if r.variant is None and (arm := _arm_of(r, declared))]


def _arm_of(row: Seen, declared: Mapping[str, ArmManifest]) -> str | None:
    same: Callable[[ArmManifest], bool] = lambda m: all(row.manifest.fields[k] == v for k, v in m.declared.items())  # noqa: E731
    return next((arm for arm, m in declared.items() if same(m)), None)
