"""Is everything as it should be: this installation, the store file, the logs in it? Each check says what to do.

A new check is a function of `Patient` with the mark `@check`; it looks and changes nothing (opening an old store for writing
migrates it, so the store is opened read-only).
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from abtest.errors import AbtestError, StoreLockedError
from abtest.results import ToDict
from abtest.store import ledger
from abtest.store.store import Store, schema_version

State = Literal["ok", "warning", "failed", "skipped"]
DAY_US = 86_400_000_000
_FREE_FACTOR = 2
"""A migration or a large ingest may need about as much room again as the store has; twice is comfortable."""
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*([^;]*)")


@dataclass(frozen=True)
class Ailment(ToDict):
    """What one check found; `advice` says what to do where something is to be done."""

    check: str
    status: State
    detail: str
    advice: str = ""


@dataclass
class Patient:
    """What is looked at: the store's path, the store when it could be opened, and the clock (microseconds since 1970)."""

    path: Path
    store: Store | None
    now_us: int


Check = Callable[[Patient], Ailment]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Add a check; they run in the order of this file."""
    CHECKS.append(function)
    return function


def examine(path: Path, *, now_us: int | None = None) -> list[Ailment]:
    """Run every check on this installation and a store; a missing store is said, not raised.

    Args:
        path: The store file.
        now_us: The clock; default: this machine's.
    """
    patient = Patient(path, None, time.time_ns() // 1000 if now_us is None else now_us)
    opening: AbtestError | None = None
    if path.exists():
        try:
            patient.store = Store(path, read_only=True, wait=1.0)
        except AbtestError as error:
            opening = error
    try:
        found = [each(patient) for each in CHECKS]
    finally:
        if patient.store is not None:
            patient.store.close()
    return [_store_file(path, opening), *found]


def _store_file(path: Path, error: AbtestError | None) -> Ailment:
    if not path.exists():
        return Ailment("store", "warning", f"there is no store {path}", "`abtest ingest PATH...` makes one")
    if isinstance(error, StoreLockedError):
        return Ailment("store", "warning", error.message, "fine while `abtest watch` works; else end that process")
    if error is not None:
        return Ailment("store", "failed", error.message, error.hint or "")
    return Ailment("store", "ok", f"{path}, {path.stat().st_size / 1e6:,.1f} MB")


# -- the installation --------------------------------------------------------------------------------------------


@check
def python(_: Patient) -> Ailment:
    """Check the version of Python."""
    have = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info >= (3, 11)
    return Ailment("python", "ok" if fine else "failed", f"Python {have}", "" if fine else "use Python 3.11 or newer")


@check
def packages(_: Patient) -> Ailment:
    """Check that every package which abtest needs is there, in a version that it was made for."""
    wrong: list[str] = []
    needed = [r for r in importlib.metadata.requires("abtest") or () if "extra ==" not in r]
    for requirement in needed:
        match = _REQUIREMENT.match(requirement)
        name, wanted = (match.group(1), match.group(2).strip()) if match else (requirement, "")
        try:
            have = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if not _fits(have, wanted):
            wrong.append(f"{name} {have} is not {wanted}")
    if wrong:
        return Ailment("packages", "failed", "; ".join(wrong), "install abtest again in a fresh environment")
    return Ailment(
        "packages", "ok", f"abtest {importlib.metadata.version('abtest')}, {len(needed)} packages it needs fit"
    )


@check
def clock(patient: Patient) -> Ailment:
    """Compare the clock with the file system's and with the newest event: a wrong clock makes live logs look stale."""
    if patient.store is None:
        return Ailment("clock", "skipped", "needs a store")
    newest = patient.store.newest_us()
    written = int(patient.path.stat().st_mtime * 1e6)
    if written > patient.now_us + 60_000_000:
        ahead = (written - patient.now_us) / 1e6
        return Ailment(
            "clock", "warning", f"the store was written {ahead:,.0f} s in the future", "set this machine's clock"
        )
    if newest is not None and newest > patient.now_us + 60_000_000:
        ahead = (newest - patient.now_us) / 1e6
        return Ailment(
            "clock",
            "warning",
            f"the newest event lies {ahead:,.0f} s in the future",
            "set the clock of this machine or of the one that logs",
        )
    return Ailment("clock", "ok", "no event and no file is from the future")


@check
def disk(patient: Patient) -> Ailment:
    """Check the room that is left beside the store, and that its folder can be written."""
    folder = patient.path.absolute().parent
    if not folder.is_dir():
        return Ailment("disk", "failed", f"the folder {folder} does not exist", "make it, or give another --db")
    free = shutil.disk_usage(folder).free
    size = patient.path.stat().st_size if patient.path.exists() else 0
    said = f"{free / 1e9:,.1f} GB free"
    if not os.access(folder, os.W_OK):
        return Ailment("disk", "failed", f"{folder} cannot be written", "change its permissions, or give another --db")
    if free < max(_FREE_FACTOR * size, 200_000_000):
        return Ailment("disk", "warning", said, "make room: `abtest prune --before TS`, or a larger disk")
    return Ailment("disk", "ok", said)


# -- the store ---------------------------------------------------------------------------------------------------


@check
def schema(patient: Patient) -> Ailment:
    """Compare the store's schema with the one this version writes."""
    if patient.store is None:
        return Ailment("schema", "skipped", "needs a store")
    return Ailment("schema", "ok", f"version {schema_version()}")


@check
def extensions(patient: Patient) -> Ailment:
    """Check that DuckDB fetches no extension on its own."""
    if patient.store is None:
        return Ailment("extensions", "skipped", "needs a store")
    names = ("autoinstall_known_extensions", "autoload_known_extensions")
    rows = patient.store.connection.execute(
        "select name, value from duckdb_settings() where name in (?, ?)", list(names)
    ).fetchall()
    on = [str(name) for name, value in rows if str(value).lower() not in ("false", "0")]
    if on:
        return Ailment("extensions", "failed", f"{', '.join(on)} is on", "report this: abtest switches it off")
    return Ailment("extensions", "ok", "DuckDB loads nothing from the network")


@check
def decisions(patient: Patient) -> Ailment:
    """Check the chain of the decision ledger."""
    if patient.store is None:
        return Ailment("ledger", "skipped", "needs a store")
    try:
        count = ledger.verify(patient.store.connection)
    except AbtestError as error:
        return Ailment("ledger", "failed", error.message, "restore the store from a snapshot; nothing is decided on it")
    return Ailment("ledger", "ok", f"whole, {count} entries")


@check
def rejected(patient: Patient) -> Ailment:
    """Check what part of the records was rejected."""
    if patient.store is None:
        return Ailment("quarantine", "skipped", "needs a store")
    row = patient.store.connection.execute(
        "select (select count(*) from quarantine), (select coalesce(sum(records), 0) from file_ledger)"
    ).fetchone()
    bad, all_of_them = (int(row[0]), int(row[1])) if row else (0, 0)
    share = bad / all_of_them if all_of_them else 0.0
    said = f"{bad:,} of {all_of_them:,} records are in quarantine"
    if share > 0.01:
        return Ailment("quarantine", "warning", said, "`abtest quarantine list` has the reasons")
    return Ailment("quarantine", "ok", said)


@check
def flow(patient: Patient) -> Ailment:
    """Say how old the newest event is; only the team knows how old it may be."""
    newest = patient.store.newest_us() if patient.store is not None else None
    if newest is None:
        return Ailment("logs", "skipped", "no event in the store")
    days = (patient.now_us - newest) / DAY_US
    said = f"the newest event is {days:.1f} days old" if days >= 1 else f"the newest event is {days * 24:.1f} hours old"
    if days > 2:
        return Ailment("logs", "warning", said, "`abtest ingest` what is new, or run `abtest watch`")
    return Ailment("logs", "ok", said)


# -- versions ----------------------------------------------------------------------------------------------------


def _fits(have: str, wanted: str) -> bool:
    """Return whether a version satisfies bounds like ">=2,<3"; other operators than these are not in our own list."""
    mine = _numbers(have)
    for bound in filter(None, (part.strip() for part in wanted.split(","))):
        match = re.match(r"(>=|<=|==|<|>)\s*([0-9.]+)", bound)
        if match is None:
            continue
        theirs = _numbers(match.group(2))
        width = max(len(mine), len(theirs))
        a, b = ((*v, *[0] * (width - len(v))) for v in (mine, theirs))
        holds = {">=": a >= b, "<=": a <= b, "==": a == b, "<": a < b, ">": a > b}[match.group(1)]
        if not holds:
            return False
    return True


def _numbers(version: str) -> list[int]:
    """Return the release numbers of a version; what follows (rc1, post2) does not matter for bounds."""
    return [int(part) for part in re.findall(r"^\d+(?:\.\d+)*", version)[0].split(".")]
