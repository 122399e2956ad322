"""What came of a watch: its last decisions, and what did not work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abtest.results import Decision, ToDict
from abtest.rollout.watch_failures import Failure

if TYPE_CHECKING:
    import polars

    from abtest.display import Table

_NOTHING = 40


@dataclass(frozen=True)
class WatchResult(ToDict):
    """A watch that has ended: `abtest.watch/1`.

    Attributes:
        ticks: How often it looked.
        failed_ticks: In how many of these something did not work.
        decisions: The last decision of each experiment.
        failing: What did not work in the last tick.
        last_error: What did not work last, if anything ever.
        inserted: Rows that were taken.
        dry_run: Nothing was changed.
    """

    ticks: int
    failed_ticks: int
    decisions: tuple[Decision, ...]
    failing: tuple[Failure, ...] = ()
    last_error: Failure | None = None
    inserted: int = 0
    dry_run: bool = False

    @property
    def exit_code(self) -> int:
        """Return the highest code of the last decisions, which stay in force, and of what failed in the last tick."""
        codes = [d.exit_code for d in self.decisions] + [f.exit_code for f in self.failing]
        return max(codes, default=_NOTHING) if self.decisions else max([*codes, _NOTHING])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.watch/1`."""
        return {"schema": "abtest.watch/1", **super().to_dict()}

    def __repr__(self) -> str:
        return self._table().to_text()

    def _repr_html_(self) -> str:
        """Show the last decisions in a notebook."""
        return self._table().to_html(styled=True)

    def to_polars(self) -> polars.DataFrame:
        """Return a polars frame, a row a decision."""
        return self._table().to_polars()

    def _table(self) -> Table:
        from abtest.display import Table

        failed = f", {self.failed_ticks:,} failed" if self.failed_ticks else ""
        rows = [[d.experiment, d.stage.label, d.decision.upper(), d.reason, d.summary] for d in self.decisions]
        title = f"{self.ticks:,} ticks{failed}, {self.inserted:,} rows"
        return Table(("experiment", "stage", "decision", "reason", "why"), rows, title=title)
