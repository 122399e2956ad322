"""report: one HTML file, Markdown and JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abtest.cli.common import DEFAULT_DB, AsOfOption, DbOption, JsonOption, emit, existing_store, load_spec, moment, say

if TYPE_CHECKING:
    from abtest.report.model import Entry
    from abtest.spec import Experiment
    from abtest.store.store import Store


_FOR_REPLAY = ("spec", "findings", "facts", "extra", "history")
"""What the ledger keeps of a decision so that it can be made again; the report shows what was decided."""


def report(
    specs: Annotated[
        list[Path] | None,
        typer.Argument(help="Experiment files; default: every experiment decided in this store.", metavar="SPEC"),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for report.html, report.md and report.json.", metavar="DIR")
    ] = Path("report"),
    db: DbOption = DEFAULT_DB,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
) -> int:
    """Write the report: one self-contained HTML file, Markdown and JSON, published as a whole.

    Example: abtest report experiment.toml --out report
    """
    from abtest.analysis.together import together
    from abtest.errors import NoDataError
    from abtest.report import write_report

    cut = moment(as_of)
    with existing_store(db) as store:
        experiments = [load_spec(path) for path in specs or []] or decided_experiments(store)
        if not experiments:
            raise NoDataError(
                "nothing was decided in this store yet", file=str(db), hint="`abtest report SPEC` names an experiment"
            )
        entries = [entry_of(store, e, as_of_us=cut) for e in together(store, experiments, as_of_us=cut, series=True)]
        last = store.last_file()
    paths = write_report(entries, out, generated_from={"store": db.name, "last_file": last})
    if as_json:
        emit(
            {
                "schema": "abtest.report_files/1",
                "files": {k: str(p) for k, p in paths.items()},
                "experiments": [e.id for e in experiments],
            }
        )
    else:
        for entry in entries:
            say(entry.decision.summary if entry.decision else entry.analysis.experiment)
        say(f"written: {paths['html']}, {paths['markdown'].name}, {paths['json'].name}")
    return 0


def entry_of(store: Store, experiment: Experiment, *, as_of_us: int | None = None) -> Entry:
    """Return what the report says of one experiment: evidence, what it means today, and what was decided before."""
    from abtest.analysis.analyze import analyze
    from abtest.lineage.index_findings import index_looks
    from abtest.lineage.release_versions import release_versions
    from abtest.release import release_findings
    from abtest.report import Entry
    from abtest.results import Action
    from abtest.rollout.decide import decide_with_analysis
    from abtest.store import ledger
    from abtest.tradeoff import latest

    history: list[dict[str, Any]] = [
        {"decision_id": e.decision_id, **{k: v for k, v in e.body.items() if k not in _FOR_REPLAY}}
        for e in ledger.entries(
            store.connection, experiment=experiment.id, revision=experiment.revision, kind="decision"
        )
    ]
    ran = release_versions(store, experiment, as_of_us)
    newest = store.newest_us() if as_of_us is None else as_of_us
    looks = index_looks(store, experiment, newest, store.last_file()) if newest is not None else []
    tradeoffs = latest(store, experiment.id)
    if len(experiment.treatments) != 1:
        return Entry(analyze(store, experiment, as_of_us=as_of_us), None, history, ran, looks, tradeoffs)
    decision, analysis = decide_with_analysis(
        store, experiment, as_of_us=as_of_us, dry_run=True, check_flag=False, series=True, segments="all",
        findings=release_findings,
    )  # fmt: skip
    # A report acts on nothing; what was done when this was decided is in the ledger.
    done = ledger.entries(store.connection, experiment=experiment.id, revision=experiment.revision, kind="action")
    actions = tuple(
        Action(e.body["actuator"], e.body["status"], e.body["detail"])
        for e in done
        if e.decision_id == decision.decision_id and e.body["status"] == "done"
    )
    return Entry(analysis, replace(decision, actions=actions), history, ran, looks, tradeoffs)


def decided_experiments(store: Store) -> list[Experiment]:
    """Return the experiments of the ledger, in their newest revision and with the spec they were last decided by."""
    from abtest.spec import Experiment
    from abtest.store import ledger

    newest: dict[str, ledger.Entry] = {}
    for entry in ledger.entries(store.connection, kind="decision"):
        known = newest.get(entry.experiment)
        if known is None or entry.revision >= known.revision:
            newest[entry.experiment] = entry
    return [Experiment.from_dict(newest[name].body["spec"]) for name in sorted(newest)]


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(report)
