"""Experiment, variant, unit and prompt from free metadata and tags: the house names, the same for every format.

`abtest.variant`, `abtest_variant`, `variant` and a tag `variant:treatment` all mean the variant; so for the other
columns (see `names`). Trace tools flatten, nest and encode metadata: `{"abtest": {"variant": "b"}}`, `promptVersion`,
and a value that is a text encoded as JSON mean the same. What is not understood is the user's own and goes to
`attributes`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from abtest.ingest.base import mapping
from abtest.ingest.cells import parsed
from abtest.ingest.names import ALIASES

LIMIT = 256
"""Longer text is content, not a label."""

TAGS = 50
"""At most so many tags are kept in `attributes`."""

STANDARD = {
    "experiment_id": ("feature_flag.key",),
    "variant": ("feature_flag.result.variant", "feature_flag.variant"),
    "unit_id": ("feature_flag.context.id", "user.id", "enduser.id"),
    "session_id": ("session.id", "gen_ai.conversation.id"),
    "prompt_name": ("gen_ai.prompt.name",),
    "prompt_version": ("gen_ai.prompt.version",),
    "ruleset_version": ("feature_flag.version",),
}
"""Native field: OpenTelemetry attributes that tools copy into their metadata."""

NAMES: dict[str, tuple[str, ...]] = {
    field: (
        *(f"{prefix}{name}" for prefix in ("abtest.", "abtest_") for name in names),
        *names,
        *STANDARD.get(field, ()),
    )
    for field, names in ALIASES.items()
}
"""Native field: the names that carry it, best first."""

RANKS = {name: (field, rank) for field, names in NAMES.items() for rank, name in enumerate(names)}
"""Name: its native field, and its place among the names of the field."""

SCORERS = {"user": "user", "human": "human", "annotator": "human", "judge": "judge", "llm": "judge", "code": "code"}
"""First word of a score's name: who scored, where the source does not say."""


@lru_cache(maxsize=4096)
def snake(name: str) -> str:
    """Return `promptVersion` as `prompt_version`; other names stay as they are."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() if name.isidentifier() and not name.isupper() else name


def label(value: Any) -> str | None:
    """Return a short text, or a finite number as text; a text that was encoded as JSON is opened."""
    if isinstance(value, str) and value[:1] == '"':
        value = parsed(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else None
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    return value if isinstance(value, str) and 0 < len(value) <= LIMIT else None


def context(metadata: Mapping[str, Any], tags: Sequence[Any]) -> dict[str, Any]:
    """Return the native fields that metadata and tags carry; metadata wins over tags.

    Args:
        metadata: Free key-value pairs.
        tags: A JSON array; `variant:b`, `variant=b` and `abtest.variant:b` are understood.
    """
    named = dict(_named(metadata))
    for name, value in _tagged(tags):
        named.setdefault(name, value)
    best: dict[str, tuple[int, str]] = {}
    for name, value in named.items():
        field, rank = RANKS[name]
        if (field not in best or rank < best[field][0]) and (known := label(value)):
            best[field] = (rank, known)
    return {field: value for field, (_, value) in best.items()}


def rest(metadata: Mapping[str, Any], tags: Sequence[Any], junk: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what is the user's own, small and plain: short text, numbers, booleans, and the tags that name nothing.

    Args:
        metadata: Free key-value pairs.
        tags: A JSON array.
        junk: Beginnings of keys that the tool itself writes.
    """
    kept: dict[str, Any] = {}
    for name, raw in metadata.items():
        if not 0 < len(name) <= LIMIT or name.startswith(junk) or snake(name) in RANKS:
            continue
        value = parsed(raw)
        if _plain(value):
            kept[name] = value
    other = [tag for tag in tags if isinstance(tag, str) and 0 < len(tag) <= LIMIT and _split(tag) is None]
    if other:
        kept.setdefault("tags", other[:TAGS])
    return kept


def scorer_kind(name: str | None, declared: Any = None) -> str:
    """Return who scored: what metadata declares, else by the first word of the name, else `code`.

    `user_feedback` and `user-rating` are the user's, `human_…` a human's, `judge_…` and `llm_…` a judge model's.
    """
    if isinstance(declared, str) and declared in ("human", "judge", "user", "code"):
        return declared
    first = re.split(r"[^a-z]", snake(name or "").lower(), maxsplit=1)[0]
    return SCORERS.get(first, "code")


def _named(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the pairs under names that we know; of two spellings of a name the plain one comes last and counts."""
    for name, value in mapping(parsed(metadata.get("abtest"))).items():
        if (known := f"abtest.{snake(name)}") in RANKS:
            yield known, value
    for name, value in metadata.items():
        if (plain := snake(name)) in RANKS and plain != name:
            yield plain, value
    yield from ((name, value) for name, value in metadata.items() if name in RANKS and label(value))


def _tagged(tags: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield name and value of the tags whose name we know."""
    for tag in tags:
        if isinstance(tag, str) and (pair := _split(tag)):
            yield pair


def _split(tag: str) -> tuple[str, str] | None:
    """Return name and value of a tag `name:value` or `name=value` whose name we know; None for any other tag."""
    at = next((place for place, char in enumerate(tag) if char in ":="), len(tag))
    name, value = tag[:at].strip(), tag[at + 1 :].strip()
    return (name, value) if name in RANKS and value else None


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= LIMIT
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)
