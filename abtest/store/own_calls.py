"""The calls of an experiment, copied once into a narrow table that all readings of its analysis take.

An analysis reads its calls about fifteen times. Where an experiment is a small part of the store, or only what is new is
asked for, each reading would go through everything; so one pass keeps what is needed, for one experiment or for several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from abtest.store.engines.base import Engine
from abtest.store.query import Params, Query, Scan, fill, query

TOGETHER, ALONE = "own_calls", "own_calls_alone"
"""Names of the table, for several experiments that are read one after the other, and for one."""
LIMIT = 1_000_000
"""Calls of one such table at most: it is held in memory."""

Since = tuple[int, int] | None
"""What is known already: up to which file and moment; None when nothing is."""


@dataclass(frozen=True)
class OwnCalls:
    """What a kept table of calls holds.

    Attributes:
        table: Its name.
        since: experiment -> what is left out because it was known; None when all of its calls are here.
        as_of_us, max_file: Up to where.
        columns: What it has of every call.
    """

    table: str
    since: Mapping[str, Since]
    as_of_us: int
    max_file: int
    columns: frozenset[str]

    def source(self, scan: Scan, known: Since) -> str | None:
        """Return the table when a scan can be read from it; `known`: only what is newer than this is wanted."""
        fits = (
            scan.experiment in self.since
            and self.since[scan.experiment] in (None, known)
            and self.max_file == scan.max_file
            and scan.as_of_us <= self.as_of_us
            and scan.needed <= self.columns
            and own_only(scan)
        )
        return self.table if fits else None


def own_only(scan: Scan) -> bool:
    """Return whether calls say themselves that they are of the experiment: by their own id, not by what their unit was assigned."""
    return not scan.facts.assignments and not scan.derive_arms


def copy(engine: Engine, table: str, wanted: Sequence[tuple[Scan, Since]]) -> OwnCalls:
    """Keep the calls of some experiments, each of which must be `own_only`, in one pass over the store.

    Args:
        engine: Where to read and keep.
        table: Its name.
        wanted: What each asks, and what is known of it already. All have one `max_file`.
    """
    columns = frozenset[str]().union(*(scan.needed for scan, _ in wanted))
    as_of = max(scan.as_of_us for scan, _ in wanted)
    engine.keep(table, *own_calls([(scan.at(as_of_us=as_of), since) for scan, since in wanted], columns))
    return OwnCalls(table, {scan.experiment: since for scan, since in wanted}, as_of, wanted[0][0].max_file, columns)


def total(engine: Engine) -> int:
    """Return how many calls the store has; it knows without looking at them."""
    return int(engine.rows("select count(*) as n from interaction")[0]["n"])


def sizes(engine: Engine, scans: Sequence[Scan]) -> dict[str, int]:
    """Return how many calls of the store name each of these experiments."""
    return {str(row["experiment_id"]): int(row["calls"]) for row in engine.rows(*sizes_query(scans))}


def sizes_query(scans: Sequence[Scan]) -> Query:
    """Return the query that counts the calls which name each of these experiments."""
    params = Params(max_file=max(scan.max_file for scan in scans))
    return query(fill("own_sizes", experiments=params.bind_all("experiment", (s.experiment for s in scans))), params)


def newer(engine: Engine, since: tuple[int, int], max_file: int) -> int:
    """Return how many rows the files brought that came after those which are known."""
    row = engine.rows(
        "select coalesce(sum(inserted), 0) as n from file_ledger where file_id > $since and file_id <= $max_file",
        {"since": since[0], "max_file": max_file},
    )[0]
    return int(row["n"])


def own_calls(wanted: Sequence[tuple[Scan, Since]], columns: frozenset[str]) -> Query:
    """Return the query of the calls of some experiments, newer than what is known; kept as `own_calls`."""
    first = wanted[0][0]
    params = Params(max_file=first.max_file, as_of=first.as_of_us)
    conditions: list[str] = []
    for since in sorted({since for _, since in wanted}, key=lambda s: s or (-1, -1)):
        names = params.bind_all("experiment", (scan.experiment for scan, s in wanted if s == since))
        newer = ""
        if since is not None:
            file, seen = (params.bind("since", value) for value in since)
            newer = f" and (i.file_id > {file} or i.ts_us > {seen})"
        conditions.append(f"i.experiment_id in ({names}){newer}")
    return query(
        fill(
            "own_calls",
            columns=", ".join(f'i."{c}"' for c in sorted(columns)),
            interaction=first.at(source=None, extra=columns).interaction(),
            wanted="\n    or ".join(conditions),
            # So that a reading of one of several goes to its part of the table only.
            order="\norder by i.experiment_id" if len(wanted) > 1 else "",
        ),
        params,
    )
