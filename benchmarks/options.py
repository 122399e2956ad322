"""What every part of the benchmarks is told, and the shape of what it prints."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What is asked of every part.

    Attributes:
        quick: Few repetitions, little data.
        environments: Where the peers' environments are kept; None for a temporary folder.
        data: Where large logs are kept; None for a temporary folder.
        rows: Sizes of the logs; empty for those that docs/performance.md shows.
    """

    quick: bool = False
    environments: Path | None = None
    data: Path | None = None
    rows: tuple[int, ...] = ()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
