"""Sides that take turns within one run, in processes of their own; what is quoted is the median of their paired ratios."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.options import Options
from benchmarks.peers.environment import Peer
from benchmarks.stats_speed import Spread, spread

Answer = Mapping[str, Any]
QUICK_ROWS = 30_000


class Own(Peer):
    """A process of our own environment."""

    def __init__(self) -> None:
        super().__init__("own", requirements=("abtest",))

    @property
    def _python(self) -> Path:
        return Path(sys.executable)

    def _install(self) -> None:
        return


def take_turns(sides: Mapping[str, Callable[[], Answer]], rounds: int, *, warm: bool = True) -> dict[str, list[Answer]]:
    """Ask every side once a round, after one round that does not count."""
    if warm:
        for ask in sides.values():
            ask()
    answers: dict[str, list[Answer]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, ask in sides.items():
            answers[name].append(ask())
    return answers


def seconds(answers: Sequence[Answer]) -> Spread:
    """Return the spread of the times."""
    return spread([float(a["seconds"]) for a in answers])


def ratio(answers: Sequence[Answer], base: Sequence[Answer]) -> Spread:
    """Return the spread of the paired ratios of times."""
    return spread([float(a["seconds"]) / float(b["seconds"]) for a, b in zip(answers, base, strict=True)])


def gigabytes(answers: Sequence[Answer]) -> str:
    """Return the peak memory of a side's process."""
    peaks = [float(a["peak"]) for a in answers if a["peak"] is not None]
    return f"{max(peaks) / 1000:.2f} GB" if peaks else "not known"


def quantile(values: Sequence[float], q: float) -> float:
    """Return the value at or above which the share 1 - q of them lies (the next higher one; no interpolation)."""
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def folder(options: Options) -> AbstractContextManager[str]:
    """Return where the logs are kept: a folder that stays, or one that goes."""
    if options.data is None:
        return TemporaryDirectory(prefix="abtest-logs-")
    options.data.mkdir(parents=True, exist_ok=True)
    return _Stays(str(options.data))


class _Stays(AbstractContextManager[str]):
    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> str:
        return self._path

    def __exit__(self, *_: object) -> None:
        return


def sizes(options: Options, standard: Sequence[int]) -> Sequence[int]:
    """Return the numbers of rows to measure at."""
    return (QUICK_ROWS,) if options.quick else options.rows or standard
