"""verify: the ledger's chain, and decisions made again from the logs."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from abtest.cli.common import DEFAULT_DB, DbOption, JsonOption, emit, existing_store, progress_bar, say

if TYPE_CHECKING:
    from abtest.rollout.replay import Replay
    from abtest.store.store import Store

NOT_THE_SAME = 30


def verify(
    replay: Annotated[
        str | None,
        typer.Option(
            "--replay",
            help="Make this decision again from the logs; the id, or 8 or more of its first digits.",
            metavar="ID",
        ),
    ] = None,
    replay_all: Annotated[bool, typer.Option("--replay-all", help="Make every recorded decision again.")] = False,
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Check that nobody changed the decision ledger, and that its decisions follow from the logs.

    The hash chain is checked always, from the first entry to the last. A replay reads the logs as they were at the decision's
    watermark: what came later, or a spec that was edited since, does not change it. Exit 30 when the chain is broken, or when
    a decision comes out otherwise; not when its logs were pruned since.

    Example: abtest verify --replay 3f9c2a71
    """
    from abtest.errors import UsageError
    from abtest.store import ledger

    if replay is not None and replay_all:
        raise UsageError("--replay and --replay-all exclude each other", key="--replay-all")
    with existing_store(db) as store:
        count = ledger.verify(store.connection)
        done = _replays(store, replay, everything=replay_all, quiet=as_json)
    ok = all(r.status != "differs" for r in done)
    if as_json:
        keys = (
            "decision_id",
            "status",
            "detail",
            "seq",
            "experiment",
            "revision",
            "recorded_at",
            "summary",
            "recorded",
            "replayed",
        )
        rows = [{k: data[k] for k in keys} for data in (r.to_dict() for r in done)]
        emit({"schema": "abtest.verify/1", "entries": count, "ok": ok, "replayed": rows})
    else:
        say(f"the ledger is whole: {count} {'entry' if count == 1 else 'entries'}")
        _print(done)
        if replay_all and not done:
            say("no decision was recorded yet: `abtest decide SPEC`")
    return 0 if ok else NOT_THE_SAME


def add(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(verify)


def _replays(store: Store, ident: str | None, *, everything: bool, quiet: bool) -> list[Replay]:
    from abtest.rollout import replay

    if ident is not None:
        return [replay.replay(store, ident)]
    if not everything:
        return []
    total = len(replay.decisions(store))
    done: list[Replay] = []
    with progress_bar(quiet) if total > 1 else nullcontext() as advance:
        for one in replay.replay_all(store):
            done.append(one)
            if advance:
                advance(f"replay {one.decision_id[:8]}", len(done), total)
    return done


_SAID = {"same": "made again from the logs: the same", "differs": "NOT the same: "}


def _print(done: list[Replay]) -> None:
    from abtest.display import format_time

    for one in done:
        say(f"{one.decision_id[:16]}  {format_time(one.recorded_at)}  {one.experiment}, revision {one.revision}")
        say(f"  {one.summary}")
        say(f"  {_SAID.get(one.status, '')}{one.detail}")
    if len(done) > 1:
        counts = {status: sum(r.status == status for r in done) for status in ("same", "differs", "pruned", "unknown")}
        say(f"{len(done)} decisions: {', '.join(f'{n} {status}' for status, n in counts.items() if n)}")
