"""A decision in print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abtest.cli.common import say

if TYPE_CHECKING:
    from abtest.results import Decision


def print_decision(decision: Decision) -> None:
    """Print a decision for people: the sentence, what else was found, what was done."""
    say(decision.summary)
    for finding in decision.findings:
        if finding.message not in decision.summary:
            say(f"  {finding.severity:8s} {finding.message}")
    for action in decision.actions:
        say(f"  {action.actuator}: {action.status}, {action.detail}")
    say(f"  decision {decision.decision_id[:16]}{' (dry run, nothing was written)' if decision.dry_run else ''}")
