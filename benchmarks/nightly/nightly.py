"""The nightly analysis: 12 metrics, two treatments, all that was logged, against what peers take for less.

Every side runs in a process of its own and takes turns with the others; ratios are paired within a round. Peers get the 13
columns as one Parquet file, we and the hand-written SQL read the store. Three stages: users return, their treatment share grows.
"""

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.nightly.logs import Logs, experiment_id, make_store, write_parquet
from benchmarks.nightly.rounds import Answer, Own, folder, gigabytes, ratio, seconds, sizes, take_turns
from benchmarks.options import Options, table
from benchmarks.peers.environment import Peer, PeerUnavailableError

ROWS = (1_000_000, 10_000_000, 50_000_000)
PEERS = {
    "tea-tasting": ("tea-tasting==1.14.0", "polars==2.1.0", "pyarrow"),
    "gbstats": ("gbstats==0.8.0", "duckdb==2.0.0"),
    "pandas": ("pandas==3.1.1", "scipy==1.17.1", "pyarrow"),
}
SCAN, HAND = "bare scan of the 13 columns, warm", "hand-written one-pass SQL"
OURS, ALL, STAGES = "abtest, one stage", "abtest, one stage, with 10 segments", "abtest, three stages"
NAMES = {
    "tea-tasting": "tea-tasting on polars (no quantiles)",
    "gbstats": "gbstats, one SQL a metric",
    "pandas": "pandas + scipy (quantiles without a test)",
}
TARGETS = (
    ("one stage with segments / bare scan", ALL, SCAN, 6.0),
    ("one stage with segments / tea-tasting on polars", ALL, NAMES["tea-tasting"], 0.55),
    ("three stages / one stage", STAGES, OURS, 3.0),
)
ROUNDS = {50_000_000: 1, 10_000_000: 3}
ALONE_FROM = 20_000_000
"""Rows from which on one side at a time is in memory."""


def run(options: Options) -> str:
    """Return a table for every size."""
    with folder(options) as here:
        parts = [measure(rows, Path(here), options) for rows in sizes(options, ROWS)]
    return "\n\n".join(parts)


def measure(rows: int, here: Path, options: Options) -> str:
    """Return the tables of one size."""
    plain, staged = Logs(rows), Logs(rows, staged=True)
    stores = {
        OURS: make_store(plain, here / f"{plain.name}.duckdb"),
        STAGES: make_store(staged, here / f"{staged.name}.duckdb"),
    }
    parquet = write_parquet(stores[OURS], here / f"{plain.name}.parquet")
    with ExitStack() as stack:
        once = rows > ALONE_FROM
        base = str(stores[OURS])
        hand = _asker(stack, Own, once=once)
        sides = {SCAN: partial(hand, "scan", db=base), HAND: partial(hand, "hand", db=base)}
        for name, logs, segments in ((OURS, plain, False), (ALL, plain, True), (STAGES, staged, False)):
            own = here / f"own-{len(sides)}-{rows}.duckdb"
            shutil.copy(stores[STAGES if logs.staged else OURS], own)
            stack.callback(own.unlink)
            ask = _asker(stack, Own, once=once)
            sides[name] = partial(ask, "nightly", db=str(own), logs=asdict(logs), segments=segments)
        missing = []
        for name, wanted in PEERS.items():
            try:
                ask = _asker(stack, partial(Peer, f"nightly-{name}", options.environments, wanted), once=once)
                sides[NAMES[name]] = partial(ask, "nightly", parquet=str(parquet), experiment=experiment_id(0))
            except PeerUnavailableError as reason:
                missing.append(f"* {name} is skipped: {reason}")
        rounds = 1 if options.quick else ROUNDS.get(rows, 7)
        answers = take_turns(sides, rounds, warm=rounds > 1)
    return report(rows, rounds, answers) + "".join(f"\n{line}" for line in missing)


def _asker(stack: ExitStack, make: Callable[[], Peer], *, once: bool) -> Callable[..., Answer]:
    """Return how a side is asked: in one process that stays, or (`once`) in a new one each time, which gives its memory back."""
    if not once:
        return stack.enter_context(make()).ask
    with make():  # a peer that cannot be had is told of now
        pass

    def ask(task: str, **arguments: Any) -> Answer:
        with make() as process:
            return process.ask(task, **arguments)

    return ask


def report(rows: int, rounds: int, answers: dict[str, list[Answer]]) -> str:
    """Return the table of the sides, the targets, and how well the sides agree."""
    lines = [
        [
            name,
            ratio(mine, answers[HAND]).text(),
            ratio(mine, answers[SCAN]).text(),
            seconds(mine).text(),
            gigabytes(mine),
        ]
        for name, mine in answers.items()
    ]
    head = ("who", "times the hand-written SQL", "times the bare scan", "seconds", "peak")
    targets = [
        f"* {name}: {ratio(answers[a], answers[b]).text()}, target {limit:g}"
        for name, a, b, limit in TARGETS
        if b in answers
    ]
    return f"### {rows:,} rows, {rounds} rounds\n\n{table(head, lines)}\n\n" + "\n".join(
        [*targets, *agreement(answers)]
    )


def agreement(answers: dict[str, list[Answer]]) -> list[str]:
    """Return how far the sides' numbers lie from ours, and how our reported standard errors lie to the plain ones."""
    ours = answers[OURS][-1]
    others = {name: mine[-1] for name, mine in answers.items() if name in (HAND, *NAMES.values())}
    lines = []
    for key, scale, what in (
        ("estimates", "levels", "effects, relative to control's value"),
        ("errors", "errors", "standard errors (ours with n/(n-1)), relative"),
    ):
        far = [
            f"{name} {apart(ours[key], other[key], ours[scale]):.0e}"
            for name, other in others.items()
            if other.get(key)
        ]
        lines.append(f"* largest difference of {what}, plain means and ratios: {', '.join(far)}")
    wider = [ours["reported"][name] / error - 1 for name, error in ours["errors"].items()]
    lines.append(f"* our reported standard errors against those: {min(wider):+.0e} to {max(wider):+.0e}")
    return lines


def apart(ours: Mapping[str, float], theirs: Mapping[str, float], scale: Mapping[str, float]) -> float:
    """Return the largest difference between two sides' numbers; CUPED and quantiles are estimated differently."""
    left_out = ("latency", "p50", "p95", "p99")
    names = [name for name in ours if name in theirs and not name.startswith(left_out)]
    return max(abs(ours[name] - theirs[name]) / abs(scale[name]) for name in names)
