"""Reads manifests to register, from TOML or JSON: one table, or several under `manifest`.

[[manifest]]
name = "support-v13"                       # optional: a name that never moves
surface = "support"                        # optional: where it is meant to run
prompt_name = "support-answer"
prompt_version = "v13"
prompt_file = "prompts/support-v13.txt"    # its text is stored and hashed, byte for byte
model = "claude-sonnet-4-5"
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abtest.errors import SpecError, did_you_mean
from abtest.lineage.manifest import FIELDS, Manifest

OTHER = ("name", "surface", "prompt_file", "prompt_text")
LONGEST = 4096
LARGEST_PROMPT = 4 * 1024 * 1024


@dataclass(frozen=True)
class Registration:
    """One manifest to register: its fields, an unchanging name, where it runs, and the prompt's text."""

    manifest: Manifest
    name: str | None = None
    surface: str | None = None
    prompt_text: str | None = None


def read_registrations(path: str | Path) -> list[Registration]:
    """Read a file of manifests; paths of prompts are relative to it.

    Raises:
        SpecError: The file cannot be read; an unknown key; a value that is no text; a prompt whose hash is not the one given.
    """
    file = Path(path)
    data = _parsed(file)
    entries = data.get("manifest", [data]) if isinstance(data, dict) else data
    if isinstance(entries, dict):
        entries = [entries]
    if not isinstance(entries, list) or not entries:
        raise SpecError("holds no manifest", file=str(path), hint="write [[manifest]] and its fields")
    if isinstance(data, dict) and "manifest" in data and (surplus := sorted(set(data) - {"manifest"})):
        raise SpecError("stands beside the manifests", file=str(path), key=surplus[0], hint="put it into [[manifest]]")
    return [_registration(entry, file, f"manifest[{k}]") for k, entry in enumerate(entries)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def registration(entry: Mapping[str, Any], *, folder: str | Path = ".") -> Registration:
    """Return a registration made in Python; `prompt_file` is relative to `folder`."""
    return _registration(dict(entry), Path(folder) / "manifest", "manifest")


def _registration(entry: Any, file: Path, where: str) -> Registration:
    if not isinstance(entry, dict):
        raise SpecError("is no table of fields", file=str(file), key=where)
    fields: dict[str, Any] = {str(k): v for k, v in entry.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    for key, value in fields.items():
        if key not in (*FIELDS, *OTHER):
            hint = did_you_mean(key[:100], (*FIELDS, *OTHER))
            raise SpecError(f"no such field: {key[:100]!r}", file=str(file), key=where, hint=hint)
        if not isinstance(value, str) or not value or (key != "prompt_text" and len(value) > LONGEST):
            raise SpecError("must be a text that is not empty", file=str(file), key=f"{where}.{key}")
    text = _text(fields, file, where)
    if text is not None:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        given = fields.setdefault("prompt_sha256", digest)
        if given != digest:
            raise SpecError(
                f"the text has the sha256 {digest}, prompt_sha256 says {given}", file=str(file), key=f"{where}.prompt_sha256",
                hint="a newline at the end counts; leave prompt_sha256 out to take the text's own",
            )  # fmt: skip
    manifest = Manifest.of(fields)
    if not manifest.known:
        raise SpecError("says nothing about what runs", file=str(file), key=where, hint='for example model = "gpt-4o"')
    return Registration(manifest, fields.get("name"), fields.get("surface"), text)


def _text(fields: Mapping[str, Any], file: Path, where: str) -> str | None:
    if "prompt_file" not in fields:
        return fields.get("prompt_text")
    if "prompt_text" in fields:
        raise SpecError("give prompt_file or prompt_text, not both", file=str(file), key=where)
    path = file.parent / fields["prompt_file"]
    try:
        if path.stat().st_size > LARGEST_PROMPT:
            raise SpecError(f"is larger than {LARGEST_PROMPT:,} bytes", file=str(path), key=f"{where}.prompt_file")
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=str(path), key=f"{where}.prompt_file") from None
    except (UnicodeDecodeError, ValueError):
        raise SpecError("is no text in UTF-8", file=str(path), key=f"{where}.prompt_file") from None


def _parsed(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=str(file)) from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        kind = "JSON" if file.suffix.lower() == ".json" else "TOML"
        raise SpecError(f"is no {kind}: {str(error).splitlines()[0]}", file=str(file)) from None
