"""Finds the formats: every module of this package that defines `FORMAT` is one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import abtest.ingest as package
from abtest.errors import LogReadError, UsageError, did_you_mean
from abtest.ingest.base import Format

THRESHOLD = 0.5
"""A format is taken when it is at least this sure and surer than every other one."""


@cache
def formats() -> Mapping[str, Format]:
    """Return all formats by name, in alphabetical order."""
    found: dict[str, Format] = {}
    for module in pkgutil.iter_modules(package.__path__):
        candidate = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "FORMAT", None)
        if not isinstance(candidate, Format):
            continue
        if candidate.name in found:
            raise RuntimeError(f"two modules of {package.__name__} define the format {candidate.name!r}")
        found[candidate.name] = candidate
    return dict(sorted(found.items()))


def get(name: str) -> Format:
    """Return the format called `name`; raises UsageError with the nearest name."""
    known = formats()
    if name not in known:
        raise UsageError(f"there is no log format {name!r}", key="source", hint=did_you_mean(name, ["auto", *known]))
    return known[name]


def detect(objects: Sequence[Mapping[str, Any]], *, file: str) -> Format:
    """Return the format of a file from its first objects.

    Each format states how sure it is (0 to 1); the surest one wins when it reaches `THRESHOLD` and no other is
    equally sure.

    Raises:
        LogReadError: Nothing fits, or two fit equally well; names the file, what was seen and the formats known.
    """
    known = formats()
    scores = sorted(((fmt.sniff(objects) if objects else 0.0, name) for name, fmt in known.items()), reverse=True)
    (best, winner), *others = scores
    hint = f"say which with --source ({', '.join(known)}), or describe it with --map FILE"
    if best < THRESHOLD:
        seen = ", ".join(list(objects[0])[:8]) if objects else "no JSON object"
        raise LogReadError(f"no log format fits; its first record has: {seen}", file=file, hint=hint)
    rivals = [name for score, name in others if score == best]
    if rivals:
        raise LogReadError(f"fits {winner} and {', '.join(rivals)} equally well", file=file, hint=hint)
    return known[winner]
