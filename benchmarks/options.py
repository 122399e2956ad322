"""What every part of the benchmarks is told, and the shape of what it prints."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """quick: few repetitions; environments: where the peers' environments are kept, None for a temporary folder."""

    quick: bool = False
    environments: Path | None = None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
