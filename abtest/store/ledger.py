"""The ledger: an append-only chain of what was decided and done. Each entry's hash covers its content and the entry before."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from abtest.errors import LedgerError

Kind = Literal["decision", "action", "override", "prune", "forget", "registry", "watch"]
GENESIS = "0" * 64
_COLUMNS = "seq, kind, experiment, revision, recorded_us, decision_id, body, previous_hash, hash"


@dataclass(frozen=True)
class Entry:
    """One line of the ledger; `body` is the JSON it carries."""

    seq: int
    kind: str
    experiment: str
    revision: int
    recorded_us: int
    decision_id: str | None
    body: Mapping[str, Any]
    previous_hash: str
    hash: str


def entry_hash(
    seq: int,
    kind: str,
    experiment: str,
    revision: int,
    recorded_us: int,
    decision_id: str | None,
    body: str,
    previous: str,
) -> str:
    """Return the sha256 that chains an entry to the one before."""
    text = json.dumps([seq, kind, experiment, revision, recorded_us, decision_id, body, previous], ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def append(
    con: duckdb.DuckDBPyConnection,
    kind: Kind,
    experiment: str,
    revision: int,
    body: Mapping[str, Any],
    *,
    decision_id: str | None = None,
) -> Entry:
    """Add an entry at the end of the chain."""
    row = con.execute("select seq, hash from ledger order by seq desc limit 1").fetchone()
    seq, previous = (int(row[0]) + 1, str(row[1])) if row else (1, GENESIS)
    recorded_us = time.time_ns() // 1000
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    digest = entry_hash(seq, kind, experiment, revision, recorded_us, decision_id, text, previous)
    con.execute(
        f"insert into ledger ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
        [seq, kind, experiment, revision, recorded_us, decision_id, text, previous, digest],
    )
    return Entry(seq, kind, experiment, revision, recorded_us, decision_id, body, previous, digest)


def entries(
    con: duckdb.DuckDBPyConnection,
    *,
    experiment: str | None = None,
    revision: int | None = None,
    kind: Kind | None = None,
) -> list[Entry]:
    """Return the entries in order, filtered."""
    rows = con.execute(
        f"""select {_COLUMNS} from ledger
        where ($experiment is null or experiment = $experiment)
          and ($revision is null or revision = $revision) and ($kind is null or kind = $kind)
        order by seq""",  # noqa: S608 - a constant
        {"experiment": experiment, "revision": revision, "kind": kind},
    ).fetchall()
    return [_entry(row) for row in rows]


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, name, experiment, revision, recorded_us, decision_id, body, previous_hash, digest = row
    return Entry(seq, name, experiment, revision, recorded_us, decision_id, json.loads(body), previous_hash, digest)


def verify(con: duckdb.DuckDBPyConnection) -> int:
    """Check the whole chain and return its length.

    Raises:
        LedgerError: an entry was changed, removed or put in; the message names the first one that does not fit.
    """
    previous, expected = GENESIS, 1
    rows = con.execute(f"select {_COLUMNS} from ledger order by seq").fetchall()  # noqa: S608 - a constant
    for row in rows:
        seq, kind, experiment, revision, recorded_us, decision_id, body, before, digest = row
        if seq != expected:
            raise LedgerError(f"entry {expected} is missing from the ledger", key=f"entry {expected}")
        if before != previous or digest != entry_hash(
            seq, kind, experiment, revision, recorded_us, decision_id, body, before
        ):
            raise LedgerError(
                f"entry {seq} ({kind} of {experiment}) was changed after it was written", key=f"entry {seq}"
            )
        previous, expected = digest, expected + 1
    return len(rows)
