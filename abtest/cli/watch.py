"""watch: look at the logs every few seconds, decide, act, until stopped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abtest.cli.common import (
    DEFAULT_DB,
    DbOption,
    ExitZeroOption,
    JsonOption,
    SpecsArgument,
    emit,
    load_spec,
    note,
    say,
)
from abtest.cli.data import (
    HashSessionsOption,
    HashUnitsOption,
    KeepTextOption,
    MapOption,
    RedactOption,
    mapped,
    transform,
)
from abtest.errors import UsageError

if TYPE_CHECKING:
    from abtest.ingest.format_schema import FormatChecks
    from abtest.rollout.watch_result import WatchResult

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?")
_SHORTEST = 0.05


def watch(
    specs: SpecsArgument,
    logs: Annotated[
        list[str],
        typer.Option("--logs", help="Log folder, file or glob; may be given again.", metavar="DIR", show_default=False),
    ],
    db: DbOption = DEFAULT_DB,
    every: Annotated[
        str, typer.Option("--every", help="Time between two looks: 10s, 500ms, 1m.", metavar="TIME")
    ] = "10s",
    max_ticks: Annotated[
        int | None, typer.Option("--max-ticks", min=1, help="Stop after so many looks.", show_default=False)
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(
            "--publish",
            help="Folder for the copy that readers get; default: DBFILE.published.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    source: Annotated[str, typer.Option("--source", help="Log format, or auto.", metavar="NAME")] = "auto",
    map_file: MapOption = None,
    keep_text: KeepTextOption = False,
    redact: RedactOption = False,
    hash_units: HashUnitsOption = False,
    hash_sessions: HashSessionsOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take rows and decide, but change no flag and tell nobody.")
    ] = False,
    exit_zero: ExitZeroOption = False,
    as_json: JsonOption = False,
) -> int:
    """Take what is new in the logs, decide and act, again and again, until stopped (SIGTERM, Ctrl-C).

    It exits as `decide` does, by the last decisions. What fails is told, shown by `abtest status`, and tried again.

    Example: abtest watch experiment.toml --logs /var/log/llm --every 10s
    """
    from abtest.release import release_findings
    from abtest.rollout.watch import watch as run
    from abtest.store.follow import stop_on_signals

    if "-" in logs:
        raise UsageError("stdin cannot be watched", key="--logs", hint="`abtest ingest -` reads it to its end")
    options: dict[str, Any] = {
        "source": source, "fmt": mapped(map_file, source), "keep_text": keep_text,
        "transform": transform(redact=redact, keep_text=keep_text, hash_units=hash_units, hash_sessions=hash_sessions),
        "formats": _formats(specs),
    }  # fmt: skip
    seconds = seconds_of(every)
    with stop_on_signals() as stop:
        result = run(
            specs, logs, db=db, every=seconds, max_ticks=max_ticks, dry_run=dry_run, publish_to=publish,
            findings=release_findings, stop=stop, tell=note if as_json else _tell, options=options,
        )  # fmt: skip
    if as_json:
        emit(result.to_dict())
    else:
        _show(result)
    return 0 if exit_zero else result.exit_code


def _formats(specs: list[Path]) -> FormatChecks | None:
    """Return the checks of the specs' `[format]`; rules with a surface come first."""
    from abtest.ingest.format_schema import FormatChecks

    given = [e.format.checks(e.folder) for e in map(load_spec, specs) if e.format is not None]
    rules = sorted((rule for checks in given for rule in checks.rules), key=lambda rule: rule.surface is None)
    return FormatChecks(rules) if rules else None


def seconds_of(text: str) -> float:
    """Read a time between two looks; a bare number is seconds.

    Raises:
        UsageError: Not a time, or too short to be of use.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no time", key="--every", hint="write 10s, 500ms or 1m")
    seconds = float(found.group(1)) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}[found.group(2)]
    if seconds < _SHORTEST:
        raise UsageError(f"{text!r} is too short", key="--every", hint="at least 50ms")
    return seconds


def _tell(text: str) -> None:
    """Print a change at once: whoever reads a log of this must not wait for a buffer."""
    import sys
    from datetime import UTC, datetime

    say(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}")
    sys.stdout.flush()


def _show(result: WatchResult) -> None:
    failed = f", {result.failed_ticks:,} of them failed" if result.failed_ticks else ""
    say(f"{result.ticks:,} looks{failed}; {result.inserted:,} rows taken")
    for decision in result.decisions:
        say(f"{decision.experiment}: {decision.summary}")
    for failure in result.failing:
        note(f"abtest: {failure.message}")


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(watch)
