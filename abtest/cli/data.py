"""ingest, quarantine: logs into the store, and what was not taken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from abtest.cli.common import (
    DEFAULT_DB,
    DbOption,
    JsonOption,
    emit,
    existing_store,
    note,
    open_store,
    progress_bar,
    say,
)


def ingest(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders or globs; plain or .gz.", metavar="PATH", show_default=False)
    ],
    db: DbOption = DEFAULT_DB,
    source: Annotated[str, typer.Option("--source", help="Log format, or auto.", metavar="NAME")] = "auto",
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Keep prompts and answers too (off by default).")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Read logs into the store: each record once, bad rows into quarantine with their reason.

    Example: abtest ingest logs/2026-11-22/*.jsonl
    """
    with open_store(db) as store, progress_bar(as_json) as bar:
        report = store.ingest(*paths, source=source, keep_text=keep_text, progress=bar)
    data = report.to_dict()
    if as_json:
        emit(data)
        return report.exit_code
    say(
        f"{data['records']:,} records from {data['files']} files in {data['seconds']:.1f} s: {data['inserted']:,} inserted, "
        f"{data['duplicates']:,} duplicates, {data['ignored']:,} ignored, {data['quarantined'] + data['conflicts']:,} in quarantine"
    )
    if data["skipped_files"]:
        say(f"{data['skipped_files']} files were in the store already")
    for reason, count in data["reasons"].items():
        say(f"  {count:,} x {reason}")
    if data["reasons"]:
        say("  `abtest quarantine list` shows them")
    for failed in data["failed_files"]:
        note(f"abtest: {failed['file']}: {failed['message']}")
    return report.exit_code


_LIST = """select quarantine_id, path, line, byte_offset, reason, detail, source
from quarantine order by quarantine_id limit $limit"""


def quarantine_list(
    db: DbOption = DEFAULT_DB,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many rows.")] = 50,
    as_json: JsonOption = False,
) -> int:
    """List rejected rows with file, line and reason.

    Example: abtest quarantine list --limit 20
    """
    from abtest.display import Table

    with existing_store(db) as store:
        rows = store.engine.rows(_LIST, {"limit": limit})
        total = store.engine.rows("select count(*) as n from quarantine")[0]["n"]
    if as_json:
        emit({"schema": "abtest.quarantine/1", "total": total, "rows": rows})
        return 0
    if not rows:
        say("the quarantine is empty")
        return 0
    columns = ("id", "file", "line", "reason", "detail")
    table = [[r["quarantine_id"], Path(r["path"]).name, r["line"], r["reason"], (r["detail"] or "")[:70]] for r in rows]
    say(Table(columns, table, title=f"{total} rejected rows").to_text())
    return 0


def quarantine_show(
    number: Annotated[
        int, typer.Argument(help="The id from `abtest quarantine list`.", metavar="ID", show_default=False)
    ],
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Show one rejected row whole.

    Example: abtest quarantine show 3
    """
    from abtest.display import clean
    from abtest.errors import UsageError

    with existing_store(db) as store:
        rows = store.engine.rows("select * from quarantine where quarantine_id = $id", {"id": number})
    if not rows:
        raise UsageError(f"there is no rejected row {number}", hint="`abtest quarantine list` shows the ids")
    row: dict[str, Any] = rows[0]
    raw = bytes(row.pop("raw") or b"").decode("utf-8", "replace")
    if as_json:
        emit({"schema": "abtest.quarantine/1", "total": 1, "rows": [{**row, "raw": raw}]})
        return 0
    say(f"{row['path']}, line {row['line']}, byte {row['byte_offset']}: {row['reason']}: {row['detail'] or ''}")
    say(clean(raw))
    return 0


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(ingest)
    group = typer.Typer(
        help="Rows that were not taken, with their reasons.", no_args_is_help=True, rich_markup_mode=None
    )
    group.command("list")(quarantine_list)
    group.command("show")(quarantine_show)
    app.add_typer(group, name="quarantine")
