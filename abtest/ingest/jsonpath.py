"""A small JSON path: `$`, `.name`, `['any name']`, `[0]`, `[-1]`, and `.*` at the end for all keys of an object.

No filters, no recursion, no expressions: a path names one place. JSON that stands as text inside a field is opened on
the way, so `$.body.usage.total` works when `body` is JSON text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from abtest.ingest.base import items, mapping
from abtest.ingest.cells import parsed

_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]'"*\s]+)
      | \[(?P<index>-?\d{1,6})\]
      | \['(?P<single>(?:[^'\\]|\\.)+)'\]
      | \["(?P<double>(?:[^"\\]|\\.)+)"\]
      | (?P<all>\.\*)$""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")
EXAMPLES = 'write a JSON path such as "$.user.id", "$.tags[0]" or "$[\'my key\']"'
ALL = "*"


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A compiled path.

    Attributes:
        text: As it was written.
        steps: Keys (text) and positions (numbers); the last may be `ALL` where `every` is set.
        every: Whether it ends in `.*`.
    """

    text: str
    steps: tuple[str | int, ...]
    every: bool = False

    def find(self, body: Any) -> Any:
        """Return the value at the path; None when there is none. With `.*` the object that holds the keys."""
        value = body
        for step in self.steps:
            value = parsed(value)
            if isinstance(step, int):
                found = items(value)
                value = found[step] if -len(found) <= step < len(found) else None
            else:
                value = mapping(value).get(step)
            if value is None:
                return None
        return mapping(parsed(value)) if self.every else value

    @property
    def name(self) -> str:
        """The last key, which names an attribute that is kept."""
        return next((step for step in reversed(self.steps) if isinstance(step, str)), "value")


def compile_path(text: str) -> JsonPath | str:
    """Compile a path; returns what is wrong with it as text. Nothing but the path itself is read."""
    if not text.startswith("$"):
        return f"{text!r} is no JSON path"
    steps: list[str | int] = []
    at, every = 1, False
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            return f"{text!r} is no JSON path: {text[at : at + 20]!r} is not understood"
        kind, at = match.lastgroup, match.end()
        if kind == "index":
            steps.append(int(match["index"]))
        elif kind == "all":
            every = True
        else:
            raw = match[kind or "name"]
            steps.append(raw if kind == "name" else _ESCAPE.sub(r"\1", raw))
    if not steps:
        return f"{text!r} names the whole record"
    return JsonPath(text, tuple(steps), every)
