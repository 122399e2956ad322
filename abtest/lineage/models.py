"""When is the model that answered another one than the model that was asked for?

Providers answer a request for a family name with the dated model behind it: `gpt-4o` by `gpt-4o-2024-08-06`,
`claude-3-5-sonnet-latest` by `claude-3-5-sonnet-20241022`, `gemini-1.5-pro` by `gemini-1.5-pro-002`. That is an alias, no
swap. `gpt-4o` by `gpt-4o-mini`, `claude-sonnet-4` by `claude-sonnet-4-5`, one date by another: those are swaps. A name of your
own (a deployment, a gateway's group) says nothing about the model behind it: only a change of the answer does.

>>> is_swap("gpt-4o", "gpt-4o-2024-08-06"), is_swap("gpt-4o", "gpt-4o-mini"), is_swap("support-eu", "gpt-4o")
(False, True, False)
"""

from __future__ import annotations

import re

_HEADS = re.compile(r"^(?:models/|publishers/[^/]+/models/|[a-z0-9_-]+/|(?:us|eu|apac|global)\.)+")
_VENDOR = re.compile(r"^(?:anthropic|openai|google|meta|mistral|amazon|cohere|deepseek|qwen)\.")
_SNAPSHOT = re.compile(r"(?:[-:_](?:\d{4}-\d{2}-\d{2}|\d{2}-\d{2}|\d{6,8}|\d{3,4}|v\d+|\d|latest|exp|preview|stable))*")
"""What may stand behind a family's name: a date, a build of three or four digits, a revision such as -v1:0, a channel."""
_BUILD = re.compile(r"[-:_](?:\d{4}-\d{2}-\d{2}|\d{6,8}|\d{3,4}|v\d+|latest|exp|preview|stable)(?:[-:_]|$)")
_BARE = re.compile(r"v?[\d.:_-]+")
_FAMILIES = ("gpt", "chatgpt", "o1", "o3", "o4", "claude", "gemini", "gemma", "llama", "mistral", "mixtral", "codestral",
             "command", "qwen", "deepseek", "grok", "nova", "titan", "phi", "text-embedding", "embed")  # fmt: skip
_LIMIT = 300


def base_name(model: str) -> str:
    """Return a model's name in lower case, without routes and vendors before it."""
    name = _VENDOR.sub("", _HEADS.sub("", model.strip().lower()[:_LIMIT]))
    return name.replace("@", "-").replace("gpt-35", "gpt-3.5")  # as Vertex and Azure write them


def is_alias(requested: str, answered: str) -> bool:
    """Tell whether the answer's name is the requested one, more exact or as exact, or a bare version of it."""
    asked, got = base_name(requested), base_name(answered)
    asked = re.sub(r"[-:]latest$", "", asked)
    got = re.sub(r"[-:]latest$", "", got)
    if asked == got or _BARE.fullmatch(got):
        return True
    longer, shorter = (got, asked) if len(got) > len(asked) else (asked, got)
    rest = longer[len(shorter) :]
    # A single digit behind the name ("-5") is another model, unless a build comes before it ("-v1:0").
    return longer.startswith(shorter) and _SNAPSHOT.fullmatch(rest) is not None and _BUILD.match(rest) is not None


def is_swap(requested: str, answered: str) -> bool:
    """Tell whether another model answered than was asked for; False where the requested name is no model's."""
    return _is_known(base_name(requested)) and not is_alias(requested, answered)


def _is_known(name: str) -> bool:
    return any(re.match(rf"{re.escape(family)}(?![a-z])", name) for family in _FAMILIES)
