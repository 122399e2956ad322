"""rebuild: what was derived from the logs, made anew."""

from __future__ import annotations

import typer

from abtest.cli.common import DEFAULT_DB, DbOption, JsonOption, emit, existing_store, say


def rebuild(db: DbOption = DEFAULT_DB, as_json: JsonOption = False) -> int:
    """Throw away what was derived from the logs (aggregates that stay between analyses) and derive it anew.

    Decisions do not change by it: the next analysis reads everything once, and finds the same numbers.

    Example: abtest rebuild --db abtest.duckdb
    """
    from abtest.store.state import rebuild as anew

    with existing_store(db) as store:
        done = anew(store)
    if as_json:
        emit({"schema": "abtest.rebuild/1", **done})
        return 0
    say(
        f"dropped the aggregates of {done['states']} experiments; {done['repeated_requests']:,} requests have several calls"
    )
    say("the next analysis reads everything once")
    return 0


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(rebuild)
