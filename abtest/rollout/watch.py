"""Watch releases: take what is new in the logs, decide, act, record, publish; then wait, until told to stop.

One tick opens the store once and closes it again, so that `abtest override`, `abtest status` and readers get in between. When
nothing is new, nothing is opened: a tick decides only when rows came, a spec or the store was changed by somebody, a
clock ran out (staleness, an override's expiry), a message is due, or something did not work the time before.

What does not work (a store that is locked, a spec that was edited wrong, logs that cannot be read, a flag file that is
gone) ends nothing: it is told once, recorded, shown by `abtest status`, and tried again. The last decision stays in force.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from abtest.errors import UsageError
from abtest.rollout import publish
from abtest.rollout.decide import Findings
from abtest.rollout.watch_inputs import LogFolders, SpecFile
from abtest.rollout.watch_result import WatchResult
from abtest.rollout.watch_ticks import Watched, Watcher
from abtest.spec import Experiment
from abtest.store.follow import follow


def watch(
    specs: str | Path | Experiment | Sequence[str | Path | Experiment],
    logs: str | Path | Sequence[str | Path],
    *,
    db: str | Path = "abtest.duckdb",
    every: float = 10.0,
    max_ticks: int | None = None,
    dry_run: bool = False,
    publish_to: str | Path | None = None,
    findings: Findings = (),
    stop: threading.Event | None = None,
    tell: Callable[[str], None] | None = None,
    options: Mapping[str, Any] | None = None,
    clock: Callable[[], int] | None = None,
) -> WatchResult:
    """Take what is new in the logs, decide, act and record, every few seconds, until `stop` is set or `max_ticks` were made.

    Args:
        specs: Experiment files, which are read again when they change, or experiments.
        logs: Files, folders and globs; they may be empty, or come later.
        db: The store; it is made when it does not exist, and opened for each tick only.
        every: Seconds from the start of one tick to the start of the next.
        max_ticks: Stop after so many; default: never.
        dry_run: Take rows and decide, but change no flag, tell nobody, and record only that a halt would have come.
        publish_to: Folder of the published files; default: beside the store, `DBFILE.published`.
        findings: Further findings for each decision (see `decide`).
        stop: Set it to stop; the tick under way is finished first.
        tell: Called with one line for each change; default: nothing is said.
        options: What `Store.ingest` takes besides paths (source, fmt, transform, keep_text, ...).
        clock: The time in microseconds since 1970; default: this machine's.

    Returns:
        The last decisions, and how many ticks failed. Failures raise nothing.

    Raises:
        SpecError: A spec cannot be read at the start.
        UsageError: The same experiment twice, or no log folder.
    """
    given = [specs] if isinstance(specs, (str, Path, Experiment)) else list(specs)
    paths = [logs] if isinstance(logs, (str, Path)) else list(logs)
    if not given or not paths:
        raise UsageError("a watch needs at least one spec and one log folder", hint="abtest watch SPEC --logs DIR")
    more: dict[str, Any] = {"clock": clock} if clock is not None else {}
    watcher = Watcher(
        [Watched(SpecFile.of(one)) for one in given], LogFolders(Path(db), paths, dict(options or {})), Path(db),
        Path(publish_to) if publish_to is not None else publish.folder_of(Path(db)), dry_run=dry_run, findings=findings,
        tell=tell or (lambda _: None), every=every, **more,
    )  # fmt: skip
    try:
        follow(watcher.tick, every=every, stop=stop or threading.Event(), max_ticks=max_ticks)
    finally:
        watcher.close()
    return watcher.result()
