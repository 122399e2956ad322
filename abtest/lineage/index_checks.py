"""Recorded looks at an index: they hold the releases they concern, and stand in the report."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abtest.errors import UsageError
from abtest.store.query import fill
from abtest.store.store import Store

if TYPE_CHECKING:
    from abtest.lineage.index_results import IndexCompare, IndexDrift

_KINDS = {"abtest.index_drift/1": "drift", "abtest.index_compare/1": "compare"}


@dataclass(frozen=True)
class IndexCheck:
    """One recorded look.

    Attributes:
        kind: "drift" or "compare".
        index_id: The index it concerns; None for all.
        experiment: The experiment it concerns; None for all that use the index.
        as_of_us: Newest event when it was made.
        file_id: Its number among the loads.
        exit_code: 0 when it holds nothing.
        body: The JSON contract, without long series.
    """

    kind: str
    index_id: str | None
    experiment: str | None
    as_of_us: int
    file_id: int
    exit_code: int
    body: Mapping[str, Any]


def record_check(
    store: Store, result: IndexDrift | IndexCompare, *, index_id: str | None = None, experiment: str | None = None
) -> IndexCheck:
    """Write a look into the store: from now on it holds the releases it concerns, until a newer look of its kind does not.

    It is a load like any other (source "index_check"), with the next number in the file ledger: a decision that was made
    before replays without it.

    Args:
        store: Open for writing.
        result: Of `index_drift` or `index_compare`.
        index_id: The index it concerns; default: the one that a drift names, if it names one; else all.
        experiment: Concern this experiment only.

    Raises:
        UsageError: a comparison that names neither: it would hold every release.
    """
    body = _short(result.to_dict())
    kind = _KINDS[body["schema"]]
    if kind == "compare" and experiment is None and index_id is None:
        raise UsageError(
            "whose release does this comparison hold?", key="--experiment", hint="name the experiment of the swap"
        )
    names = {str(each["index_id"]) for each in body.get("indexes", ()) if each["index_id"] is not None}
    index_id = index_id if index_id is not None else next(iter(names)) if len(names) == 1 else None
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    digest = hashlib.sha256(text.encode("ascii")).hexdigest()
    now = time.time_ns() // 1000
    as_of_us = store.newest_us() or 0
    con = store.connection
    con.begin()
    try:
        file_id = store.last_file() + 1
        # head = '': no part of any file, so that no file is ever taken for its continuation.
        con.execute(
            """insert into file_ledger (file_id, path, sha256, bytes, source, lines, records, inserted, duplicates, conflicts,
              quarantined, ignored, ingested_us, root_id, end_number, head, tail, container)
            values (?, ?, ?, ?, 'index_check', 1, 0, 0, 0, 0, 0, 0, ?, ?, 1, '', '', 'lines')""",
            [file_id, f"(index {kind})", digest, len(text), now, file_id],
        )
        con.execute(
            "insert into index_check values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [digest, kind, experiment, index_id, as_of_us, file_id, now, result.exit_code, text],
        )
    except BaseException:
        con.rollback()
        raise
    con.commit()
    return IndexCheck(kind, index_id, experiment, as_of_us, file_id, result.exit_code, body)


def index_checks(store: Store, experiment: str, *, as_of_us: int = 2**62, max_file: int = 2**62) -> list[IndexCheck]:
    """Return the newest recorded look of each kind at each index that may concern an experiment, as known at a watermark.

    Args:
        store: An open store.
        experiment: Its id; looks that name another one are left out.
        as_of_us: Looks made on later events are left out.
        max_file: Looks recorded later are left out.
    """
    rows = store.engine.rows(fill("index_checks"), {"experiment": experiment, "as_of": as_of_us, "max_file": max_file})
    return [
        IndexCheck(
            str(r["kind"]), r["index_id"], r["experiment"], int(r["as_of_us"]), int(r["file_id"]), int(r["exit_code"]), json.loads(r["body"])
        )
        for r in rows
    ]  # fmt: skip


def _short(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contract without its long series: hours of the queries, rounds of the probes, days of the queries."""
    short = dict(body)
    if "queries" in short:
        short["queries"] = [{k: v for k, v in u.items() if k != "hours"} for u in short["queries"]]
    for part, series in (("probes", "series"), ("query_drift", "batches")):
        if short.get(part):
            short[part] = {k: v for k, v in short[part].items() if k != series}
    return short
