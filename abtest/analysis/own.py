"""When the calls of an experiment are copied out of the store before they are read (store/own_calls.py)."""

from __future__ import annotations

from abtest.store import own_calls
from abtest.store.engines.base import Engine
from abtest.store.own_calls import ALONE, LIMIT
from abtest.store.query import Scan
from abtest.store.state import State
from abtest.store.store import Store

PART = 0.5
"""An experiment that is a larger part of the store than this is read where it is: a copy would save little."""
WORTH_IT = 100_000
"""A smaller store is read as fast as it would be copied."""


def source(store: Store, scan: Scan, old: State | None) -> str | None:
    """Return the kept table that has the calls of a scan, or those newer than a state; None: read the store.

    A table that was kept for several experiments serves; else one is kept for this scan where that pays.
    """
    engine, known = store.engine, (old.file_id, old.as_of_us) if old else None
    kept = store.own_calls.source(scan, known) if store.own_calls else None
    if kept or not own_calls.own_only(scan):
        return kept
    if known:
        few = own_calls.newer(engine, known, scan.max_file) <= LIMIT
    else:
        total = own_calls.total(engine)
        few = total >= WORTH_IT and own_calls.sizes(engine, [scan]).get(scan.experiment, 0) <= min(LIMIT, PART * total)
    return own_calls.copy(engine, ALONE, [(scan, known)]).table if few else None


def drop(engine: Engine) -> None:
    """Drop the table of one experiment."""
    engine.drop(ALONE)
