"""quarantine: what was not taken, or waits, and why; and trying it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from abtest.cli.common import DEFAULT_DB, DbOption, JsonOption, emit, existing_store, say
from abtest.cli.data import (
    HashSessionsOption,
    HashUnitsOption,
    KeepTextOption,
    MapOption,
    RedactOption,
    mapped,
    transform,
)

_LIST = """select quarantine_id, path, line, byte_offset, reason, detail, source, score_id
from (
    select quarantine_id, path, line, byte_offset, reason, detail, source, cast(null as varchar) as score_id
    from quarantine
    union all
    select null, f.path, null, null, 'ambiguous_target', a.detail, s.source, a.score_id
    from ambiguous_score a
    join (select score_id, min(file_id) as file_id, min(source) as source from score group by score_id) s using (score_id)
    left join file_ledger f using (file_id)
) listed
order by quarantine_id nulls last, score_id limit $limit"""

_AMBIGUOUS = """select s.*, a.calls, a.detail
from score s join ambiguous_score a using (score_id)
where s.score_id = $id
order by coalesce(s.updated_us, s.ts_us) desc"""


def quarantine_list(
    db: DbOption = DEFAULT_DB,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many rows.")] = 50,
    as_json: JsonOption = False,
) -> int:
    """List rejected rows with file, line and reason, and the scores that fit several calls.

    Example: abtest quarantine list --limit 20
    """
    from abtest.display import Table

    with existing_store(db) as store:
        rows = store.engine.rows(_LIST, {"limit": limit})
        rejected = store.engine.rows("select count(*) as n from quarantine")[0]["n"]
        ambiguous = store.engine.rows("select count(*) as n from ambiguous_score")[0]["n"]
    if as_json:
        emit({"schema": "abtest.quarantine/1", "total": rejected + ambiguous, "ambiguous": ambiguous, "rows": rows})
        return 0
    if not rows:
        say("the quarantine is empty")
        return 0
    columns = ("id", "file", "line", "reason", "detail")
    table = [
        [
            r["score_id"] if r["quarantine_id"] is None else r["quarantine_id"],
            Path(r["path"]).name if r["path"] else "",
            "" if r["line"] is None else r["line"],
            r["reason"],
            (r["detail"] or "")[:70],
        ]
        for r in rows
    ]
    title = f"{rejected} rejected rows" + (f", {ambiguous} scores that fit several calls" if ambiguous else "")
    say(Table(columns, table, title=title).to_text())
    return 0


def quarantine_show(
    name: Annotated[
        str,
        typer.Argument(
            help="The id from `abtest quarantine list`: of a row, or of a score.", metavar="ID", show_default=False
        ),
    ],
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Show one rejected row whole, or a score that fits several calls.

    Example: abtest quarantine show 3
    """
    from abtest.display import clean
    from abtest.errors import UsageError

    with existing_store(db) as store:
        rows: list[dict[str, Any]] = []
        if name.isascii() and name.isdigit() and len(name) < 19:
            rows = store.engine.rows("select * from quarantine where quarantine_id = $id", {"id": int(name)})
        scores = [] if rows else store.engine.rows(_AMBIGUOUS, {"id": name})
    if scores:
        return _show_score(scores, as_json=as_json)
    if not rows:
        raise UsageError(f"there is no rejected row {clean(name)}", hint="`abtest quarantine list` shows the ids")
    row = rows[0]
    raw = bytes(row.pop("raw") or b"").decode("utf-8", "replace")
    if as_json:
        emit({"schema": "abtest.quarantine/1", "total": 1, "rows": [{**row, "raw": raw}]})
        return 0
    say(f"{row['path']}, line {row['line']}, byte {row['byte_offset']}: {row['reason']}: {row['detail'] or ''}")
    say(clean(raw))
    return 0


def _show_score(scores: list[dict[str, Any]], *, as_json: bool) -> int:
    from abtest.display import clean

    if as_json:
        emit({"schema": "abtest.quarantine/1", "total": 1, "rows": [{"reason": "ambiguous_target", **scores[0]}]})
        return 0
    say(f"score {clean(scores[0]['score_id'])} waits: {clean(scores[0]['detail'])}")
    for score in scores:
        say(clean(", ".join(f"{key}={value}" for key, value in score.items() if value is not None and key != "detail")))
    return 0


def quarantine_retry(
    db: DbOption = DEFAULT_DB,
    number: Annotated[int | None, typer.Option("--id", help="Only this row.", metavar="N", show_default=False)] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Only rows of this format.", metavar="NAME", show_default=False)
    ] = None,
    map_file: MapOption = None,
    keep_text: KeepTextOption = False,
    redact: RedactOption = False,
    hash_units: HashUnitsOption = False,
    hash_sessions: HashSessionsOption = False,
    as_json: JsonOption = False,
) -> int:
    """Read rejected rows again with the rules of today, and take in what passes.

    Example: abtest quarantine retry --source native
    """
    from abtest.store.retry import retry

    change = transform(redact=redact, keep_text=keep_text, hash_units=hash_units, hash_sessions=hash_sessions)
    fmt = mapped(map_file)
    with existing_store(db) as store:
        done = retry(store.connection, number=number, source=source, fmt=fmt, transform=change, keep_text=keep_text)
    if as_json:
        emit(done.to_dict())
        return 0
    say(
        f"{done.tried:,} rows tried: {done.taken:,} are out of quarantine ({done.inserted:,} records inserted, "
        f"{done.duplicates:,} duplicates), {done.kept:,} stay"
    )
    for reason, count in sorted(done.reasons.items()):
        say(f"  {count:,} x {reason}")
    for why, count in sorted(done.skipped.items()):
        say(f"  {count:,} cannot be tried: {_WHY.get(why, why)}")
    return 0


_WHY = {
    "conflict": "another record has their id (conflict)",
    "truncated": "their file ended inside them (truncated)",
    "too_long": "only their beginning was kept (too_long)",
    "cut": "only their first 64 KB were kept",
    "outline": "they were stored without their text (--redact, --hash-units, or forgotten)",
    "unknown_format": "they came through a map; name it with --map",
}


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(
        help="Rows that were not taken, with their reasons.", no_args_is_help=True, rich_markup_mode=None
    )
    group.command("list")(quarantine_list)
    group.command("show")(quarantine_show)
    group.command("retry")(quarantine_retry)
    app.add_typer(group, name="quarantine")
