"""Reads the evidence of one experiment: one pass over the logs, then integer sums; nothing is judged here.

A decision looks at the end of every stage and at its watermark. What happened in between can be drawn (analysis/series.py),
but does not enter: so the pass over the logs ends in one row a unit and stage, and the same logs give the same decision,
whoever looked before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import duckdb

from abtest.analysis import own
from abtest.analysis.constants import freeze
from abtest.analysis.covariate import freeze_moved
from abtest.analysis.evidence import Evidence, Stratum, strata_of
from abtest.analysis.increment import Advanced, add, advance, with_tables
from abtest.analysis.rare import takes_rate_ratio
from abtest.analysis.segment_read import Which, read_segments
from abtest.analysis.series import grow, grow_from
from abtest.analysis.tables import Looked, most_calls, prepare, row_tables, unit_tables
from abtest.analysis.times import to_us
from abtest.errors import SpecError
from abtest.spec import Experiment
from abtest.store import state
from abtest.store.engines.base import Engine
from abtest.store.moments import Layout
from abtest.store.query import Facts, Scan, fill
from abtest.store.rows import EXACT
from abtest.store.state import State
from abtest.store.store import Store

SERIES_CALLS = 2_000_000
"""Calls up to which a report reads how the evidence grew from all units; beyond, it shows what earlier analyses found."""


def scan_of(experiment: Experiment, strata: Sequence[Stratum], *, as_of_us: int, max_file: int) -> Scan:
    """Return what the experiment asks of the logs."""
    starts = [s.since_us for s in strata]
    begin = max(to_us(experiment.start) if experiment.start else 0, starts[0])
    return Scan(
        experiment=experiment.id,
        arms=tuple(experiment.arm_names),
        unit=experiment.unit,
        measures=experiment.measures,
        where=experiment.where_expression(),
        call_order=experiment.population.per_request,
        stage_starts_us=tuple(starts[1:]),
        manifests={arm: m.declared for arm, m in experiment.arms.items() if m.declared},
        start_us=begin,
        as_of_us=min(as_of_us, to_us(experiment.end)) if experiment.end else as_of_us,
        max_file=max_file,
        extra=frozenset[str]().union(*(s.expression().columns for s in experiment.segments)),
    )


def read(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    max_file: int | None = None,
    history: Sequence[tuple[int, float]] = (),
    series: bool = False,
    segments: Which = "guardrails",
    progress: Callable[[str], None] | None = None,
) -> Evidence:
    """Read the evidence of an experiment at a watermark.

    Args:
        store: An open store; frozen constants are written to it once, unless it is read-only.
        experiment: What is asked.
        as_of_us: Cut by event time; default: the newest event in the store.
        max_file: Ignore what was loaded later (replay); default: everything.
        history: Changes of the split that abtest itself made: (time, treatment's share).
        series: Also read how the evidence grew.
        segments: "guardrails": only the levels that can stop the release; "all": every level, to be looked at.
        progress: Called with a word before each slow step.
    """
    say = progress or (lambda _: None)
    newest = store.newest_us()
    as_of_us = newest if as_of_us is None else as_of_us
    max_file = store.last_file() if max_file is None else max_file
    if as_of_us is None:
        strata = strata_of(experiment, 2**62, history)
        return Evidence(
            experiment, scan_of(experiment, strata, as_of_us=0, max_file=max_file), strata, None, max_file, {}, ()
        )
    strata = strata_of(experiment, as_of_us, history)
    engine = store.engine
    scan = scan_now(engine, experiment, strata, as_of_us=as_of_us, max_file=max_file)
    # Rows that wait until they are mature change without news: their sums cannot be kept.
    lasting = newest == as_of_us and not scan.waits
    say("scan")
    try:
        anew = not lasting or state.known_until(store, experiment.id, experiment.revision) is None
        scan = scan.at(source=own.source(store, scan, None) if anew else None)
        frozen, limits, caps = freeze(store, engine, experiment, scan)
        scan = scan.at(limits=limits, caps=caps)
        asked = layout_of(experiment, strata, scan)
        blank = Evidence(experiment, scan, strata, as_of_us, max_file, frozen, scan.active)
        old = state.load(store, experiment.id, experiment.revision, asked) if lasting else None
        if old and series and sum(row["calls"] for row in old.body["tables"]["calls"]) <= SERIES_CALLS:
            old = None  # how the evidence grew is read from all units
        found = _known(blank, old) or (old and advance(engine, old, asked, blank, own.source(store, scan, old)))
        if not found:
            whole = scan if anew else scan.at(source=own.source(store, scan, None))
            old, found = None, read_all(engine, asked.of(whole), blank, say)
    except duckdb.Error as error:
        raise _misfit(engine, experiment, scan, error) from error
    evidence = found.evidence
    if found.layout and lasting and evidence.population["calls"] >= state.WORTH_IT and not store.read_only:
        say("state")
        state.save(store, experiment.id, experiment.revision, found.layout, found.body(), old=old)
    if scan.has_covariates:
        evidence = freeze_moved(store, evidence)
    if series:
        say("series")
        small = old is None and found.layout is not None and evidence.population["calls"] <= SERIES_CALLS
        growth = (
            grow(engine, found.layout, evidence)
            if small and found.layout
            else grow_from(state.points(store, experiment.id, experiment.revision, asked), evidence)
        )
        evidence = replace(evidence, growth=growth)
    evidence = read_segments(engine, evidence, segments, say, past=old is None and found.layout is not None)
    # The table of own calls is the next experiment's as well: nobody may read from it later.
    own.drop(engine)
    return replace(evidence, scan=evidence.scan.at(source=None))


def scan_now(
    engine: Engine, experiment: Experiment, strata: Sequence[Stratum], *, as_of_us: int, max_file: int
) -> Scan:
    """Return what the experiment asks of the logs as they are: with what they hold, and how they tell arms apart."""
    scan = scan_of(experiment, strata, as_of_us=as_of_us, max_file=max_file)
    return as_logged(engine, scan, by_manifest=manifests_differ(experiment))


def as_logged(engine: Engine, scan: Scan, *, by_manifest: bool) -> Scan:
    """Return a scan with what the store holds, and how its calls tell their arm.

    Args:
        engine: Where to look.
        scan: What is asked.
        by_manifest: What a call ran may tell its arm; it does where no row of the logs names one.
    """
    scan = scan.at(facts=facts_of(engine, scan))
    if by_manifest and not engine.rows(*scan.arms_in_logs())[0]["n"]:
        return scan.at(derive_arms=True)
    return scan


def read_all(engine: Engine, asked: Layout, blank: Evidence, say: Callable[[str], None]) -> Advanced:
    """Return the evidence from all that was logged."""
    scan = asked.scan
    prepare(engine, scan)
    looked = Looked.of(engine.rows(*scan.population()))
    layout = asked.sharing(scan, looked.same)
    say("units")
    engine.keep("unit_total", *layout.unit_total())
    most = most_calls(engine)
    if looked.largest * max(most, 1) >= EXACT:
        # Sums of doubles may have left the range in which whole numbers are exact.
        scan = scan.at(wide=True)
        layout = layout.of(scan)
        engine.keep("unit_total", *layout.unit_total())
    say("moments")
    parts = [unit_tables(engine, layout), row_tables(engine, layout, looked.calls)]
    names = {name: () for part in parts for name in part}
    evidence = with_tables(replace(blank, scan=scan), add(names, [], parts))
    return Advanced(evidence, layout, replace(looked, most=most))


def _known(blank: Evidence, old: State | None) -> Advanced | None:
    """Return the evidence of a state when nothing has come since."""
    if old is None or (old.as_of_us, old.file_id) != (blank.as_of_us, blank.max_file):
        return None
    read_as = replace(blank, scan=blank.scan.at(wide=bool(old.body["wide"])))
    return Advanced(
        with_tables(read_as, old.body["tables"], sort=False),
        None,
        Looked((), old.body["same"], old.body["largest"], old.body["most"]),
    )


def facts_of(engine: Engine, scan: Scan) -> Facts:
    """Look up what the store holds, so that joins which would find nothing are left out."""
    row = engine.rows(
        fill("facts"), {"experiment": scan.experiment, "max_file": scan.max_file, "as_of": scan.as_of_us}
    )[0]
    return Facts(**{name: bool(n) for name, n in row.items()})


def layout_of(experiment: Experiment, strata: Sequence[Stratum], scan: Scan) -> Layout:
    """Return the columns of the scan; first events are wanted where the rate-ratio test will use them."""
    known = all(s.share is not None for s in strata)
    events = [
        j for j in scan.active if known and j < len(experiment.metrics) and takes_rate_ratio(experiment.metrics[j])
    ]
    return Layout(scan, events=events, absence=[j for j in events if experiment.metrics[j].better == "higher"])


def _misfit(engine: Engine, experiment: Experiment, scan: Scan, error: duckdb.Error) -> SpecError:
    """Find the expression whose types do not fit its columns: the one that fails on its own."""
    prepare(engine, scan)
    for j, metric in enumerate(experiment.metrics):
        try:
            alone = scan.at(
                measures=(scan.measures[j],),
                where=None,
                limits={0: (0.0, 0.0)} if scan.measures[j].quantile else {},
                caps={},
            )
            engine.keep("unit_total", *Layout(alone).unit_total())
        except duckdb.Error as own:
            return SpecError(
                f"the expression does not fit its columns: {str(own).splitlines()[0]}", key=f"metrics.{metric.name}"
            )
    return SpecError(f"the filter does not fit its columns: {str(error).splitlines()[0]}", key="population.where")


def manifests_differ(experiment: Experiment) -> bool:
    """Return whether the spec says of every arm what it runs, and no two arms run the same."""
    declared = [tuple(sorted(m.declared.items())) for m in experiment.arms.values() if m.declared]
    return len(declared) == len(experiment.arm_names) == len(set(declared))
