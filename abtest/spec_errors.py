"""Turns what pydantic found wrong in a spec into one line that names the key and says what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from abtest.errors import SpecError, did_you_mean
from abtest.metrics.base import Strict, kinds, quoted


def spec_error(error: ValidationError, data: Mapping[str, Any], file: str | None, root: type[Strict]) -> SpecError:
    """Turn the first pydantic error into one line; unknown keys first, because they explain missing ones."""
    problems = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    first: Mapping[str, Any] = problems[0]
    key, model = _locate(first["loc"], data, root)
    more = f"; and {len(problems) - 1} more problem{'s' if len(problems) > 2 else ''}" if len(problems) > 1 else ""
    if first["type"].startswith("union_tag"):
        key = f"{key}.kind"
    message, hint = _words(first, model)
    # One line, whatever a name in the spec holds.
    one_line = " ".join(f"{message}{more}".splitlines())
    return SpecError(one_line, file=file, key=key, hint=hint)


def _words(problem: Mapping[str, Any], model: type[Strict] | None) -> tuple[str, str | None]:
    """Return what is wrong and what to write instead."""
    kind, text, given = problem["type"], problem["msg"], problem.get("input")
    if kind == "extra_forbidden":
        return "unknown key", did_you_mean(str(problem["loc"][-1])[:100], list(model.model_fields)) if model else None
    if kind == "missing":
        return "this key is missing", None
    if kind.startswith("union_tag"):
        tag = re.search(r"tag '([^']*)' found", text)
        if tag:
            return f"{quoted(tag.group(1))} is no metric kind", did_you_mean(tag.group(1)[:100], kinds())
        return "a metric needs a kind", f"one of {', '.join(kinds())}; or use = a name that `abtest metrics` lists"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", text)
        return f"{quoted(given)} is not possible here", did_you_mean(
            given[:100] if isinstance(given, str) else "", known
        )
    if kind == "value_error":
        return text.removeprefix("Value error, "), None
    message = f"{text[:1].lower()}{text[1:]}"
    if isinstance(given, (str, int, float)):
        message += f", this is {quoted(given)}"
    return message, None


def _locate(loc: tuple[int | str, ...], data: Mapping[str, Any], root: type[Strict]) -> tuple[str, type[Strict] | None]:
    """Return the key as a person would write it (metrics by name) and the model that holds its last part."""
    parts: list[str] = []
    model: type[Strict] | None = root
    here: Any = data
    for position, step in enumerate(loc):
        if position == 2 and loc[0] == "metrics" and step in kinds():
            model = kinds()[str(step)]  # pydantic names the kind; a person does not write it
            continue
        here = _inside(here, step)
        if isinstance(step, int) and parts:
            name = here.get("name", here.get("use")) if isinstance(here, Mapping) else None
            parts[-1] = f"{parts[-1]}.{_plain(name)}" if isinstance(name, str) else f"{parts[-1]}[{step}]"
            continue
        parts.append(_plain(str(step)))
        if position < len(loc) - 1:
            model = _child(model, str(step))
    return ".".join(parts), model


def _plain(name: str) -> str:
    """Return a key as it is; one that cannot be seen is quoted."""
    return name if name.isprintable() and name and len(name) <= 100 else quoted(name)


def _inside(here: Any, step: int | str) -> Any:
    if isinstance(here, (list, tuple)):
        return here[step] if isinstance(step, int) and step < len(here) else None
    return here.get(step) if isinstance(here, Mapping) else None


def _child(model: type[Strict] | None, field: str) -> type[Strict] | None:
    if model is None or field not in model.model_fields:
        return model  # a name in a table of tables ([arms.candidate]) keeps the table's model
    stack: list[Any] = [model.model_fields[field].annotation]
    while stack:
        annotation = stack.pop()
        if isinstance(annotation, type) and issubclass(annotation, Strict):
            return annotation
        stack.extend(get_args(annotation))
    return None
