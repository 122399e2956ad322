"""What `decide` and `watch` share: findings of the versions, the decision in print, messages sent when the store is closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from abtest.cli.common import say

if TYPE_CHECKING:
    from abtest.results import Decision, Finding
    from abtest.spec import Experiment
    from abtest.store.store import Store


def release_findings(store: Store, experiment: Experiment, as_of_us: int | None, max_file: int) -> Sequence[Finding]:
    """Return what the versions that ran and recorded tradeoffs say about a release, at the watermark of its decision."""
    from abtest.lineage.findings import release_findings as run
    from abtest.tradeoff import findings as of_tradeoffs

    ran = run(store, experiment, as_of_us=as_of_us, max_file=max_file)
    return [*ran, *of_tradeoffs(store, experiment, as_of_us, max_file)]


def print_decision(decision: Decision) -> None:
    """Print a decision for people: the sentence, what else was found, what was done."""
    say(decision.summary)
    for finding in decision.findings:
        if finding.message not in decision.summary:
            say(f"  {finding.severity:8s} {finding.message}")
    for action in decision.actions:
        say(f"  {action.actuator}: {action.status}, {action.detail}")
    say(f"  decision {decision.decision_id[:16]}{' (dry run, nothing was written)' if decision.dry_run else ''}")
