"""ingest: logs into the store, once or for as long as they grow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abtest.cli.common import DEFAULT_DB, DbOption, JsonOption, emit, note, open_store, progress_bar, say

if TYPE_CHECKING:
    from abtest.errors import AbtestError
    from abtest.ingest import Format
    from abtest.ingest.format_schema import FormatChecks
    from abtest.store.load_report import IngestReport
    from abtest.store.privacy import Privacy

LARGE_LOAD = 100_000
"""Records from which on a load counts its versions at once, so that `abtest versions` is quick for whoever asks first."""
MapOption = Annotated[
    Path | None,
    typer.Option("--map", help="Read the logs as this file (TOML) says.", metavar="FILE", show_default=False),
]
RedactOption = Annotated[
    bool, typer.Option("--redact", help="Drop prompts, answers and explanations; hashes and lengths stay.")
]
HashUnitsOption = Annotated[
    bool, typer.Option("--hash-units", help="Store unit ids as keyed hashes; the key is in ABTEST_UNIT_KEY.")
]
HashSessionsOption = Annotated[bool, typer.Option("--hash-sessions", help="Hash session ids too.")]
FormatSchemaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format-schema",
        help="Check answers against this JSON Schema where the log does not say format_ok; may be given several times.",
        metavar="[SURFACE=]FILE",
        show_default=False,
    ),
]
KeepTextOption = Annotated[bool, typer.Option("--keep-text", help="Keep prompts and answers too (off by default).")]


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders or globs; plain or packed; - for stdin.", metavar="PATH", show_default=False
        ),
    ],
    db: DbOption = DEFAULT_DB,
    source: Annotated[str, typer.Option("--source", help="Log format, or auto.", metavar="NAME")] = "auto",
    map_file: MapOption = None,
    keep_text: KeepTextOption = False,
    redact: RedactOption = False,
    hash_units: HashUnitsOption = False,
    hash_sessions: HashSessionsOption = False,
    format_schema: FormatSchemaOption = None,
    max_expansion: Annotated[
        float, typer.Option("--max-expansion", min=1, help="Refuse a packed file that grows by more than this factor.")
    ] = 500.0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as the logs grow, until stopped.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.05, help="Seconds between two looks, with --follow.")] = 2.0,
    max_ticks: Annotated[
        int | None, typer.Option("--max-ticks", min=1, help="Stop after so many looks.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Read logs into the store: each record once, bad rows into quarantine with their reason.

    Example: abtest ingest logs/2026-11-22/*.jsonl
    """
    options: dict[str, Any] = {
        "source": source, "fmt": mapped(map_file, source), "keep_text": keep_text, "max_expansion": max_expansion,
        "transform": transform(redact=redact, keep_text=keep_text, hash_units=hash_units, hash_sessions=hash_sessions),
        "formats": formats(format_schema),
    }  # fmt: skip
    if follow:
        return _follow(paths, db, options, every, max_ticks, as_json=as_json)
    if max_ticks is not None:
        _refuse("--max-ticks goes with --follow", "add --follow")
    with open_store(db) as store, progress_bar(as_json) as bar:
        report = store.ingest(*paths, progress=bar, **options)
        if report.inserted >= LARGE_LOAD:
            from abtest.lineage.seen import refresh

            refresh(store)
    if as_json:
        emit(report.to_dict())
    else:
        _show(report)
    return report.exit_code


def mapped(path: Path | None, source: str | None = None) -> Format | None:
    """Return the format that a map describes."""
    if path is None:
        return None
    if source not in (None, "auto"):
        _refuse("--map and --source exclude each other", "a map says itself what it reads")
    from abtest.ingest.mapped import load_map

    return load_map(path)


def transform(*, redact: bool, keep_text: bool, hash_units: bool, hash_sessions: bool) -> Privacy | None:
    """Return what happens to each record on its way in."""
    from abtest.store.privacy import privacy

    if redact and keep_text:
        _refuse(
            "--redact and --keep-text exclude each other",
            "without either, text is not stored, only explanations of scores",
        )
    if hash_sessions and not hash_units:
        _refuse("--hash-sessions goes with --hash-units", "add --hash-units")
    return privacy(redact=redact, hash_units=hash_units, hash_sessions=hash_sessions)


def formats(given: list[str] | None) -> FormatChecks | None:
    """Return what fills `format_ok` of the records on their way in."""
    if not given:
        return None
    from abtest.ingest.format_schema import format_checks

    return format_checks(given)


def _refuse(message: str, hint: str) -> None:
    from abtest.errors import UsageError

    raise UsageError(message, hint=hint)


def _show(report: IngestReport) -> None:
    data = report.to_dict()
    say(
        f"{data['records']:,} records from {data['files']} files in {data['seconds']:.1f} s: {data['inserted']:,} inserted, "
        f"{data['duplicates']:,} duplicates, {data['ignored']:,} ignored, {data['quarantined'] + data['conflicts']:,} in quarantine"
    )
    if data["skipped_files"]:
        say(f"{data['skipped_files']} files were in the store already")
    if data["waiting_lines"]:
        say(f"  {data['waiting_lines']:,} lines are not whole yet and wait")
    if data["twins"]:
        say(f"  {data['twins']:,} calls had been logged twice; each counts once")
    if data["shadow_legs"]:
        say(f"  {data['shadow_legs']:,} calls are mirrored legs that nobody saw; they are no user traffic")
    for why, count in data["kept_out"].items():
        if count:
            say(f"  {count:,} ignored because they were {why}")
    if data["scores"].get("ambiguous"):
        say(f"  {data['scores']['ambiguous']:,} scores fit several calls and wait")
    for reason, count in data["reasons"].items():
        say(f"  {count:,} x {reason}")
    if data["reasons"] or data["scores"].get("ambiguous"):
        say("  `abtest quarantine list` shows them")
    _show_failed(report)


def _show_failed(report: IngestReport) -> None:
    for failed in report.failed_files:
        note(f"abtest: {failed.file}: {failed.message}")


def _follow(
    paths: list[str], db: Path, options: dict[str, Any], every: float, max_ticks: int | None, *, as_json: bool
) -> int:
    """Take what is new every few seconds; one line on stderr for each tick that found something."""
    from abtest.store.follow import Follower, follow, stop_on_signals

    if "-" in paths:
        _refuse("stdin cannot be followed", "`abtest ingest -` reads it to its end")
    follower = Follower(db, paths, options)
    sums = _Sums()

    def tick() -> None:
        report = follower.tick()
        sums.failed = False
        if report is None:
            return
        sums.add(report)
        if report.inserted or report.quarantined or report.conflicts:
            note(
                f"{report.inserted:,} inserted, {report.quarantined + report.conflicts:,} in quarantine, {report.duplicates:,} duplicates"
            )
        _show_failed(report)

    def failed(error: AbtestError) -> None:
        sums.failed = True
        sums.errors += 1
        note(f"abtest: {error}")

    with open_store(db):  # a store that cannot be opened at all is told at once
        pass
    with stop_on_signals() as stop:
        ticks = follow(tick, every=every, stop=stop, max_ticks=max_ticks, on_error=failed)
    if as_json:
        emit({**sums.data, "ticks": ticks, "errors": sums.errors})
    else:
        say(f"{sums.data.get('inserted', 0):,} records inserted in {ticks:,} looks")
    return 40 if sums.failed or sums.unread else 0


class _Sums:
    """The counts of all ticks, in the form of one `abtest.ingest/1` object.

    Attributes:
        data: The sums.
        failed: The last tick could not be made.
        unread: Files of the last report could not be read.
        errors: Ticks that could not be made.
    """

    def __init__(self) -> None:
        from abtest.store.load_report import Totals

        self.data: dict[str, Any] = Totals().report(0.0).to_dict()
        self.failed = False
        self.unread = False
        self.errors = 0

    def add(self, report: IngestReport) -> None:
        """Add a tick. `waiting` and the files that failed are those of the newest look."""
        new = report.to_dict()
        self.unread = bool(report.failed_files)
        for key, value in new.items():
            if key in ("schema", "failed_files") or key.startswith("waiting"):
                self.data[key] = value
            elif isinstance(value, dict):
                both = Counter(self.data[key]) + Counter(value)
                self.data[key] = {name: both[name] for name in {**self.data[key], **value}}
            else:
                self.data[key] += value
        self.data["scores"]["waiting"] = new["scores"].get("waiting", 0)
        self.data["seconds"] = round(self.data["seconds"], 3)


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(ingest)
