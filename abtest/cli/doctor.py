"""doctor: is everything as it should be, and what to do where it is not."""

from __future__ import annotations

import typer

from abtest.cli.common import DEFAULT_DB, DbOption, JsonOption, emit, say

_MARK = {"ok": "ok", "warning": "!!", "failed": "NO", "skipped": "--"}


def doctor(db: DbOption = DEFAULT_DB, as_json: JsonOption = False) -> int:
    """Check this installation, the store and the logs in it; every finding says what to do.

    Exit code: 0, or 30 when something is broken. Warnings are not counted.

    Example: abtest doctor --db abtest.duckdb
    """
    from abtest.store.doctor import examine

    found = examine(db)
    broken = [f for f in found if f.status == "failed"]
    if as_json:
        emit({"schema": "abtest.doctor/1", "ok": not broken, "checks": [f.to_dict() for f in found]})
        return 30 if broken else 0
    for each in found:
        say(f"{_MARK[each.status]}  {each.check:11s} {each.detail}{f': {each.advice}' if each.advice else ''}")
    doubts = sum(f.status == "warning" for f in found)
    say()
    say(f"{len(broken)} broken, {doubts} to look at" if broken or doubts else "all is well")
    return 30 if broken else 0


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(doctor)
