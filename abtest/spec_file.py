"""Reads the TOML of a spec; what can go wrong before its keys are looked at is said here, once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from abtest.errors import SpecError


def read_toml(path: str | Path, *, kind: str, hint: str) -> dict[str, Any]:
    """Return the content of a TOML file.

    Args:
        path: The file.
        kind: What it should be, as people say it: "an experiment file".
        hint: What to do where there is no such file.

    Raises:
        SpecError: It is not there, a folder, no text, not readable, not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError("no such file", file=str(path), hint=hint) from None
    except IsADirectoryError:
        raise SpecError(f"this is a folder, {kind} is needed", file=str(path)) from None
    except UnicodeDecodeError:
        raise SpecError("not a text file", file=str(path), hint=f"{kind} is TOML in UTF-8") from None
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"not TOML: {error}", file=str(path)) from None
