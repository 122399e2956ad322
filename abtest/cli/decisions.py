"""analyze, decide, status, override."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abtest.cli.common import (
    DEFAULT_DB,
    AsOfOption,
    DbOption,
    ExitZeroOption,
    JsonOption,
    SpecArgument,
    SpecsArgument,
    emit,
    existing_store,
    load_spec,
    moment,
    say,
)
from abtest.errors import AbtestError

if TYPE_CHECKING:
    from abtest.results import Analysis, Decision

_SEGMENT_ROWS = 10
"""Rows of each segment key that `analyze` prints; the JSON and the report have more."""


def analyze(
    specs: SpecsArgument, db: DbOption = DEFAULT_DB, as_of: AsOfOption = None, as_json: JsonOption = False
) -> int:
    """Show every metric, interval and check of an experiment; decide nothing.

    Example: abtest analyze experiment.toml --as-of 2026-11-20T12:00:00Z
    """
    from abtest.analysis.analyze import analyze as run
    from abtest.analysis.together import together
    from abtest.rollout.decide import allocation_history, evidence_until
    from abtest.store import ledger

    experiments = [load_spec(path) for path in specs]
    cut = moment(as_of)
    results: list[Analysis] = []
    with existing_store(db) as store:
        for e in together(store, experiments, as_of_us=cut, series=True):
            past = ledger.entries(store.connection, experiment=e.id, revision=e.revision)
            until = cut if cut is not None else evidence_until(store, past, time.time_ns() // 1000)
            results.append(run(store, e, as_of_us=until, history=allocation_history(past)))
    if as_json:
        emit(_one_or_many([r.to_dict() for r in results], "abtest.analyses/1", "analyses"))
    else:
        for result in results:
            _print_analysis(result)
    return 0 if any(arm.units for result in results for arm in result.arms) else 40


def decide(
    specs: SpecsArgument,
    db: DbOption = DEFAULT_DB,
    as_of: AsOfOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write and touch nothing.")
    ] = False,
    exit_zero: ExitZeroOption = False,
    as_json: JsonOption = False,
) -> int:
    """Analyse, decide, record, and act: halt the release when harm past a margin is proven.

    Example: abtest decide experiment.toml --dry-run
    """
    from abtest.analysis.together import together
    from abtest.cli.printing import print_decision
    from abtest.release import release_findings
    from abtest.rollout.decide import decide as run
    from abtest.rollout.deliver import take_due, tell_closed

    experiments = [load_spec(path) for path in specs]
    cut = moment(as_of)
    decisions: list[Decision] = []
    problem: AbtestError | None = None
    with existing_store(db) as store:
        for e in together(store, experiments, as_of_us=cut):
            try:
                decisions.append(run(store, e, as_of_us=cut, dry_run=dry_run, findings=release_findings, deliver=False))
            except AbtestError as error:  # a flag that could not be changed: somebody is told all the more
                problem = error
                break
        due = [] if dry_run else take_due(store, experiments)
    # Told while the store is closed: a receiver that hangs keeps nobody out.
    decisions = list(tell_closed(db, due, experiments, decisions))
    if problem is not None:
        raise problem
    if as_json:
        emit(_one_or_many([d.to_dict() for d in decisions], "abtest.decisions/1", "decisions"))
    else:
        for decision in decisions:
            print_decision(decision)
    return 0 if exit_zero else max(d.exit_code for d in decisions)


def status(
    db: DbOption = DEFAULT_DB,
    published: Annotated[
        Path | None,
        typer.Option(
            "--published", help="What `watch` publishes; default: beside the store.", metavar="DIR", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Show every experiment: stage, last decision, since when, what it waits for; and whether `watch` is at work.

    It answers while the store is busy, too, from what `watch` published last.

    Example: abtest status
    """
    from abtest.cli.status import print_status, status_of

    found = status_of(db, published)
    if as_json:
        emit(found)
    else:
        print_status(found)
    return 0 if found["experiments"] else 40


def override(
    spec: SpecArgument,
    decision: Annotated[str, typer.Option("--decision", help="promote, hold, halt or ship.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded and shown.")],
    actor: Annotated[str, typer.Option("--actor", help="Who decides.")],
    expires: Annotated[
        str, typer.Option("--expires", help="Until when it stands, e.g. 2026-12-01T00:00:00Z.", metavar="TS")
    ],
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Record a human decision that stands until it expires; the evidence stays visible.

    Example: abtest override experiment.toml --decision hold --reason "incident 42" --actor kim --expires 2026-12-01
    """
    from abtest.rollout.decide import override as run

    experiment = load_spec(spec)
    with existing_store(db) as store:
        entry = run(store, experiment, decision, reason=reason, actor=actor, expires=expires)
    if as_json:
        emit(
            {"schema": "abtest.override/1", "experiment": experiment.id, "revision": experiment.revision, **entry.body}
        )
    else:
        say(
            f"recorded: {decision} for {experiment.id} (revision {experiment.revision}) until {entry.body['expires']}, by {actor}"
        )
    return 0


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (analyze, decide, status, override):
        app.command()(command)


def _one_or_many(objects: list[dict[str, Any]], schema: str, key: str) -> dict[str, Any]:
    return objects[0] if len(objects) == 1 else {"schema": schema, key: objects}


def _print_analysis(analysis: Analysis) -> None:
    from abtest.display import Table, format_time, metrics_table
    from abtest.display.segments import segment_table

    say(
        f"{analysis.experiment}, revision {analysis.revision}, {analysis.stage.label}, as of {format_time(analysis.as_of)}"
    )
    say("  ".join(f"{arm.name}: {arm.units:,} units, {arm.interactions:,} calls" for arm in analysis.arms))
    say()
    say(metrics_table([m.to_dict() for m in analysis.metrics]).to_text())
    say()
    for segment in analysis.segments:
        say(segment_table(segment.to_dict(), limit=_SEGMENT_ROWS).to_text())
        for check in segment.interactions:
            if check.status == "warning":
                say(f"! {check.detail}")
        say()
    say(Table(("check", "status", "detail"), [[c.name, c.status, c.detail] for c in analysis.checks]).to_text())
    say()
    for line in analysis.notes:
        say(f"- {line}")
