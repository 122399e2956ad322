"""Several experiments in one pass: the calls that their analyses read are copied out of the store together."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from abtest.analysis.evidence import strata_of
from abtest.analysis.read import SERIES_CALLS, scan_now
from abtest.spec import Experiment
from abtest.store import own_calls, state
from abtest.store.own_calls import LIMIT, TOGETHER, Since
from abtest.store.query import Scan
from abtest.store.store import Store


@dataclass(frozen=True)
class _Plan:
    """What an experiment will read, and how many calls that is about."""

    experiment: Experiment
    scan: Scan
    since: Since
    calls: int


def together(
    store: Store, experiments: Sequence[Experiment], *, as_of_us: int | None = None, series: bool = False
) -> Iterator[Experiment]:
    """Yield the experiments one by one, in order, to be analysed or decided; one pass over the store serves many of them.

    The answers are those of each experiment alone. Batches are bounded (`own_calls.LIMIT` calls), so that memory is; an
    experiment that is larger, or whose units were assigned elsewhere in the logs, is read where it is.

    Args:
        store: An open store; nothing may be loaded into it or removed from it meanwhile.
        experiments: What is asked.
        as_of_us: The watermark at which they will be read; default: the newest event.
        series: Whether they will be asked how their evidence grew.
    """
    newest = store.newest_us()
    if len(experiments) < 2 or newest is None:
        yield from experiments
        return
    batch: list[_Plan] = []
    for plan in _plans(store, experiments, newest if as_of_us is None else as_of_us, newest, series):
        if sum(p.calls for p in batch) + plan.calls > LIMIT:
            yield from _of_batch(store, batch)
            batch = []
        batch.append(plan)
    yield from _of_batch(store, batch)


def _plans(store: Store, experiments: Sequence[Experiment], as_of_us: int, newest_us: int, series: bool) -> list[_Plan]:
    engine, last = store.engine, store.last_file()
    scans = [scan_now(engine, e, strata_of(e, as_of_us), as_of_us=as_of_us, max_file=last) for e in experiments]
    mine = own_calls.sizes(engine, scans)
    plans: list[_Plan] = []
    for experiment, scan in zip(experiments, scans, strict=True):
        calls = mine.get(experiment.id, 0)
        since = state.known_until(store, experiment.id, experiment.revision)
        if since is not None and (as_of_us != newest_us or scan.waits or (series and calls <= SERIES_CALLS)):
            since = None  # the state will not be used: all of it is read
        if since is not None:
            calls = own_calls.newer(engine, since, last)
        plans.append(_Plan(experiment, scan, since, calls))
    return plans


def _of_batch(store: Store, batch: Sequence[_Plan]) -> Generator[Experiment]:
    wanted = [(p.scan, p.since) for p in batch if own_calls.own_only(p.scan)]
    # The same id may be asked for twice (another revision): the wider answer serves both only if it is all of it.
    unique = {scan.experiment for scan, _ in wanted}
    if len(batch) < 2 or len(unique) < len(wanted) or not wanted:
        yield from (p.experiment for p in batch)
        return
    with _kept(store, wanted):
        yield from (p.experiment for p in batch)


@contextmanager
def _kept(store: Store, wanted: Sequence[tuple[Scan, Since]]) -> Generator[None]:
    store.own_calls = own_calls.copy(store.engine, TOGETHER, wanted)
    try:
        yield
    finally:
        store.own_calls = None
        store.engine.drop(TOGETHER)
