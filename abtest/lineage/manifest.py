"""The manifest: everything that a call ran, as far as its log tells, under one id.

The id is the sha256 of the canonical JSON of all fields; what a log does not carry is null, never guessed.

>>> a = Manifest.of({"model": "gpt-4o", "prompt_version": "v12"})
>>> a.short == a.manifest_id[:12], a.words
(True, 'v12 on gpt-4o')
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

FIELDS = (
    "prompt_name",
    "prompt_version",
    "prompt_sha256",
    "model",
    "model_version",
    "system_fingerprint",
    "params_sha256",
    "tools_sha256",
    "embedding_model_version",
    "index_id",
    "ruleset_version",
)
"""The fields, in the order in which they are shown. model: what was asked for; model_version: what the provider says answered."""

SHORT = 12
"""Characters of a short id."""


@dataclass(frozen=True)
class Manifest:
    """One manifest; `values` stand in the order of `FIELDS`, None where the log cannot tell."""

    values: tuple[str | None, ...]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Manifest:
        """Return the manifest of a row that has some of the fields."""
        return cls(tuple(None if (v := fields.get(name)) is None else str(v) for name in FIELDS))

    @cached_property
    def fields(self) -> dict[str, str | None]:
        """Return field -> value, all fields."""
        return dict(zip(FIELDS, self.values, strict=True))

    @cached_property
    def known(self) -> dict[str, str]:
        """Return field -> value where there is one."""
        return {name: value for name, value in self.fields.items() if value is not None}

    @cached_property
    def canonical(self) -> str:
        """Return the text that the id is the hash of."""
        return json.dumps(self.fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @cached_property
    def manifest_id(self) -> str:
        """Return the id, 64 hex digits."""
        return hashlib.sha256(self.canonical.encode("ascii")).hexdigest()

    @property
    def short(self) -> str:
        """Return the beginning of the id that people read."""
        return self.manifest_id[:SHORT]

    @property
    def words(self) -> str:
        """Return what it is in a few words: prompt, version and model."""
        prompt = " ".join(v for v in (self.fields["prompt_name"], self.fields["prompt_version"]) if v)
        model = self.fields["model_version"] or self.fields["model"] or "an unknown model"
        return f"{prompt} on {model}" if prompt else model

    def contradicts(self, other: Manifest) -> tuple[str, ...]:
        """Return the fields of which both know a value, and not the same."""
        return tuple(
            name
            for name, a, b in zip(FIELDS, self.values, other.values, strict=True)
            if a is not None and b is not None and a != b
        )

    def is_part_of(self, other: Manifest) -> bool:
        """Tell whether the other one says all that this one says, and more."""
        return self != other and all(a is None or a == b for a, b in zip(self.values, other.values, strict=True))

    def changes_to(self, other: Manifest) -> dict[str, tuple[str | None, str | None]]:
        """Return field -> (value here, value there) where they differ; None is a value too."""
        return {name: (a, b) for name, a, b in zip(FIELDS, self.values, other.values, strict=True) if a != b}


def whole_of(part: Manifest, others: Iterable[Manifest]) -> Manifest | None:
    """Return the one fuller manifest that a row with missing fields can belong to; None when there are none or several.

    A failed call has no response model: it is shown beside the version that it most likely belongs to, and stays apart.
    """
    fuller = {other for other in others if part.is_part_of(other)}
    largest = [m for m in fuller if not any(m.is_part_of(other) for other in fuller)]
    return largest[0] if len(largest) == 1 else None
