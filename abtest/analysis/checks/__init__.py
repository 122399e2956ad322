"""Whether the evidence can be trusted: one file a check, found through `run_checks`.

A check is a module with `NAME`, `BLOCKING` (a failure means "do not trust the numbers") and `run(evidence) -> Check`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from abtest.analysis.evidence import Evidence
from abtest.results import Check


@dataclass(frozen=True)
class CheckKind:
    """A check of the registry."""

    name: str
    blocking: bool
    run: Callable[[Evidence], Check]


@cache
def checks() -> tuple[CheckKind, ...]:
    """Return every check: each module of this package with a `run`."""
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return tuple(CheckKind(m.NAME, m.BLOCKING, m.run) for m in modules if hasattr(m, "run"))


def run_checks(evidence: Evidence) -> tuple[Check, ...]:
    """Run them all, in the order of their names."""
    return tuple(check.run(evidence) for check in sorted(checks(), key=lambda c: c.name))


def blocking() -> frozenset[str]:
    """Return the names of the checks whose failure makes the evidence not trustworthy."""
    return frozenset(c.name for c in checks() if c.blocking)
