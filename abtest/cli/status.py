"""What `abtest status` shows: the ledger's last word on every experiment, and the heartbeat of `watch`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abtest.cli.common import existing_store, say
from abtest.errors import StoreError, StoreLockedError

_READ_WAIT = 1.0
"""Seconds to wait for a busy store before what was published is shown instead."""


def status_of(db: Path, published: Path | None = None) -> dict[str, Any]:
    """Return `abtest.status/1`.

    Raises:
        NoDataError: There is no store.
        StoreLockedError: The store is busy, and nothing was published.
    """
    from abtest.rollout import publish
    from abtest.rollout.status import SCHEMA

    folder = published or publish.folder_of(db)
    last = publish.get(folder)
    watch = _alive(last["watch"]) if last and isinstance(last.get("watch"), dict) else None
    try:
        rows, source = _from_store(db), "store"
    except StoreLockedError:
        if last is None:
            raise
        rows, source = list(last["experiments"]), "published"
    at = last["published_at"] if last and source == "published" else None
    return {"schema": SCHEMA, "experiments": rows, "watch": watch, "source": source, "published_at": at}


def print_status(found: Mapping[str, Any]) -> None:
    """Print it for people."""
    from abtest.display import Table, format_time

    rows = found["experiments"]
    if rows:
        table = [
            [
                r["experiment"],
                r["revision"],
                r["stage"]["label"],
                r["decision"].upper(),
                format_time(r["since"]),
                r["summary"],
            ]
            for r in rows
        ]
        say(Table(("experiment", "revision", "stage", "decision", "since", "why"), table).to_text())
    else:
        say("nothing was decided yet: `abtest decide SPEC`")
    for row in rows:
        if row["needs"]:
            say(f"{row['experiment']} waits for: {'; '.join(row['needs'])}{_eta(row['eta_hours'])}")
        if row["halt"] == "waiting":
            say(f"{row['experiment']}: the logs do not show yet that the halt works")
        if row["problem"]:
            say(f"{row['experiment']}: PROBLEM {row['problem']}")
    if found["watch"]:
        say(_watch_words(found["watch"]))
    if found["source"] == "published":
        say(f"(the store is busy; this was published at {format_time(found['published_at'])})")


# -- parts -------------------------------------------------------------------------------------------------------


def _from_store(db: Path) -> list[dict[str, Any]]:
    from abtest.rollout.status import experiments_of
    from abtest.store.store import Store

    if not db.exists():
        existing_store(db)  # says what makes one
    try:
        with Store(db, read_only=True, wait=_READ_WAIT) as store:
            return experiments_of(store)
    except StoreLockedError:
        raise
    except StoreError:
        # An older schema, or a log of changes that a killed process left behind: both need the store open for writing.
        with existing_store(db) as store:
            return experiments_of(store)


def _alive(watch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the heartbeat with `state`: running, silent (no tick for long), stopped, or dead (its process is gone)."""
    state = "stopped" if watch.get("stopped") else "running"
    if state == "running":
        age = time.time() - watch["last_tick_us"] / 1e6
        if watch["host"] == socket.gethostname() and not _is_there(int(watch["pid"])):
            state = "dead"
        elif age > 3 * watch["every"] + 60:
            state = "silent"
    return {**watch, "state": state}


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _watch_words(watch: Mapping[str, Any]) -> str:
    from abtest.display import format_time

    states = {
        "running": f"watch is running (process {watch['pid']})",
        "silent": f"watch is SILENT (process {watch['pid']}): nobody is looking at the logs",
        "dead": f"watch is DEAD (process {watch['pid']} is gone): nobody is looking at the logs",
        "stopped": "watch was stopped",
    }
    text = f"{states[watch['state']]}, last tick {format_time(watch['last_tick'])}, {watch['ticks']:,} ticks"
    failed = f", {watch['failed_ticks']:,} failed" if watch["failed_ticks"] else ""
    error = f"; FAILING: {watch['last_error']['message']}" if watch["failing"] else ""
    return f"{text}{failed}{error}{' (dry run: it changes nothing)' if watch['dry_run'] else ''}"


def _eta(hours: float | None) -> str:
    if hours is None or hours < 0.5:
        return ""
    return f" (about {hours:.0f} hours)" if hours < 72 else f" (about {hours / 24:.0f} days)"
