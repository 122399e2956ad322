"""What all commands share: options, output, progress."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abtest.errors import AbtestError

if TYPE_CHECKING:
    from abtest.spec import Experiment
    from abtest.store.store import Store

DbOption = Annotated[
    Path, typer.Option("--db", help="The store, one DuckDB file.", envvar="ABTEST_DB", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
ExitZeroOption = Annotated[bool, typer.Option("--exit-zero", help="Report only: exit 0 whatever the decision is.")]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of", help="Cut by event time, e.g. 2026-11-20T12:00:00Z. Default: the newest event.", metavar="TS"
    ),
]
SpecArgument = Annotated[Path, typer.Argument(help="Experiment file (TOML).", metavar="SPEC", show_default=False)]
SpecsArgument = Annotated[
    list[Path], typer.Argument(help="Experiment files (TOML).", metavar="SPEC", show_default=False)
]
DEFAULT_DB = Path("abtest.duckdb")


def say(text: str = "") -> None:
    """Print a line for people on stdout; a terminal that cannot show a character gets a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")


def note(text: str) -> None:
    """Print a line on stderr, where logs and progress go."""
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(text.encode(encoding, "replace").decode(encoding) + "\n")


def emit(data: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; NaN would be an error of ours."""
    sys.stdout.write(json.dumps(data, ensure_ascii=True, allow_nan=False) + "\n")


def fail(error: AbtestError, *, as_json: bool) -> int:
    """Print an error and return its exit code."""
    if as_json:
        emit(error.to_dict())
    else:
        note(f"abtest: {error}")
    return error.exit_code


def open_store(path: Path, *, read_only: bool = False) -> Store:
    """Open the store; a command that only looks needs one that exists."""
    from abtest.store.store import Store

    return Store(path, read_only=read_only)


def existing_store(path: Path) -> Store:
    """Open a store for writing that must exist already: deciding on nothing would only make an empty file."""
    from abtest.errors import NoDataError

    if not path.exists():
        raise NoDataError("there is no store here", file=str(path), hint="`abtest ingest PATH...` makes one")
    return open_store(path)


def load_spec(path: Path) -> Experiment:
    """Read an experiment file."""
    from abtest.spec import Experiment

    return Experiment.from_toml(path)


def moment(text: str | None) -> int | None:
    """Read `--as-of`."""
    from abtest.analysis.times import parse_moment

    return parse_moment(text) if text else None


@contextmanager
def progress_bar(quiet: bool) -> Generator[Callable[[str, int, int], None] | None]:
    """Show a bar on stderr while something takes long; nothing when stderr is no terminal."""
    if quiet or not sys.stderr.isatty() or os.environ.get("NO_PROGRESS"):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1)

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=what[-40:], completed=done, total=max(total, 1))

        yield advance
