"""Where SQL runs: one file an engine, found through `engines()`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from abtest.store.engines.base import Engine


@cache
def engines() -> dict[str, type[Engine]]:
    """Return every engine by its name: each module of this package that defines `ENGINE` is one."""
    found: dict[str, type[Engine]] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        engine = getattr(importlib.import_module(f"{__name__}.{module}"), "ENGINE", None)
        if engine is not None:
            found[engine.name] = engine
    return found
