"""tradeoff: fine-tune or prompt, from the logs and the costs of each technique."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abtest.cli.common import DEFAULT_DB, AsOfOption, DbOption, JsonOption, emit, moment, open_store, say
from abtest.errors import NoDataError, UsageError


def tradeoff(
    spec: Annotated[
        Path | None, typer.Argument(help="Tradeoff file (TOML).", metavar="SPEC", show_default=False)
    ] = None,
    db: DbOption = DEFAULT_DB,
    as_of: AsOfOption = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the answer: the report shows it, and it can hold a release.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Write cost over volume to this SVG file.", metavar="FILE", show_default=False),
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a tradeoff file with comments, and stop.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Say whether fine-tuning (or another technique) beats the prompt: quality, cost and latency in one decision.

    Example: abtest tradeoff --example > tradeoff.toml; abtest tradeoff tradeoff.toml
    """
    from abtest.tradeoff_spec import TradeoffSpec
    from abtest.tradeoff_spec import example as text

    if example:
        if as_json:
            emit({"schema": "abtest.tradeoff_example/1", "toml": text()})
        else:
            say(text().rstrip("\n"))
        return 0
    if spec is None:
        raise UsageError("a tradeoff file is needed", hint="`abtest tradeoff --example > tradeoff.toml` writes one")
    asked = TradeoffSpec.from_toml(spec)
    if not db.exists():
        raise NoDataError("there is no store here", file=str(db), hint="`abtest ingest PATH...` makes one")
    from abtest.tradeoff import record as keep
    from abtest.tradeoff import tradeoff as run

    with open_store(db) as store:
        found = run(store, asked, as_of_us=moment(as_of))
        if record:
            keep(store, found)
    if picture is not None:
        _draw(found.plot(), picture)
    if as_json:
        emit(found.to_dict())
    else:
        say(repr(found))
    return 0


def _draw(chart: object, path: Path) -> None:
    from abtest.charts import to_svg

    try:
        path.write_text(to_svg(chart), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", file=str(path)) from error


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(tradeoff)
