"""A release as a whole: the controller decides, and what versions, indexes and recorded tradeoffs say is heard.

`abtest.rollout`, `abtest.lineage` and `abtest.tradeoff` do not know each other; here they meet, for the command line and for Python alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abtest.results import Decision, Finding
from abtest.rollout import decide as deciding
from abtest.spec import Experiment
from abtest.store.store import Store

if TYPE_CHECKING:
    import threading

    from abtest.rollout.watch_result import WatchResult


def release_findings(store: Store, experiment: Experiment, as_of_us: int | None, max_file: int) -> Sequence[Finding]:
    """Return what else is known against a release, at the watermark of its decision: an error holds it, a warning only reports.

    Args:
        store: An open store.
        experiment: The release.
        as_of_us: Up to which event time, microseconds since 1970; None: nothing was logged.
        max_file: Up to which load.
    """
    from abtest.lineage.findings import release_findings as of_versions
    from abtest.tradeoff import findings as of_tradeoffs

    ran = of_versions(store, experiment, as_of_us=as_of_us, max_file=max_file)
    return [*ran, *of_tradeoffs(store, experiment, as_of_us, max_file)]


def decide(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    dry_run: bool = False,
    findings: deciding.Findings = release_findings,
    progress: Callable[[str], None] | None = None,
    deliver: bool = True,
) -> Decision:
    """Decide, record and act, as `abtest decide` does; see `abtest.rollout.decide.decide_with_analysis` for the parts.

    Args:
        store: An open store; the decision is appended to its ledger unless `dry_run` or the store is read-only.
        experiment: What is asked; it has one treatment.
        as_of_us: Watermark by event time, microseconds since 1970; default: the newest event.
        dry_run: Say what would be done; write and touch nothing.
        findings: What else to report with the decision: a list, or a function of (store, experiment, as_of_us, max_file);
            default: what versions, indexes and recorded tradeoffs say.
        progress: Called with a word before each slow step.
        deliver: Tell webhook and command now, while the store is open.

    Raises:
        SpecError: more than one treatment.
        LedgerError: the ledger was tampered with; nothing is decided on top of it.
        ActuatorError: the flag file could not carry out a halt; nothing is written.
    """
    return deciding.decide(
        store, experiment, as_of_us=as_of_us, dry_run=dry_run, findings=findings, progress=progress, deliver=deliver
    )


def watch(
    specs: str | Path | Experiment | Sequence[str | Path | Experiment],
    logs: str | Path | Sequence[str | Path],
    *,
    db: str | Path = "abtest.duckdb",
    every: float = 10.0,
    max_ticks: int | None = None,
    dry_run: bool = False,
    publish_to: str | Path | None = None,
    findings: deciding.Findings = release_findings,
    stop: threading.Event | None = None,
    tell: Callable[[str], None] | None = None,
    options: Mapping[str, Any] | None = None,
    clock: Callable[[], int] | None = None,
) -> WatchResult:
    """Follow the logs and decide as `abtest watch` does; see `abtest.rollout.watch.watch` for arguments and errors."""
    from abtest.rollout.watch import watch as run

    return run(
        specs, logs, db=db, every=every, max_ticks=max_ticks, dry_run=dry_run, publish_to=publish_to, findings=findings, stop=stop,
        tell=tell, options=options, clock=clock,
    )  # fmt: skip
