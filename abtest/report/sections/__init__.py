"""The parts of a chapter, one file each.

A new section is a new file here that defines `SECTION` (see `abtest.report.model.Section`); nothing else to register.
"""

from __future__ import annotations

import importlib
import pkgutil

from abtest.report.model import Section


def all_sections() -> tuple[Section, ...]:
    """Return the sections of all files in this folder, in their order."""
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    sections = [importlib.import_module(f"{__name__}.{name}").SECTION for name in names]
    return tuple(sorted(sections, key=lambda section: (section.order, section.key)))
