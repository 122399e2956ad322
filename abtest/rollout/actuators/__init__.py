"""What a decision can act on: one file an actuator, found by walking this folder.

A new actuator is one new file here with a class under `@register` (see `base`); names with a leading underscore are
helpers. `tests/rollout/test_flagd.py` walks the registry and checks every class that it finds.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from abtest.errors import ActuatorError, did_you_mean
from abtest.rollout.actuators.base import REGISTRY, Actuator


def actuator_types() -> Mapping[str, type[Actuator]]:
    """Return every actuator class by its name; imports the files of this folder on the first call."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(REGISTRY.items()))


def actuator_type(name: str) -> type[Actuator]:
    """Return the class of one actuator.

    Raises:
        ActuatorError: No actuator has this name; the hint names the nearest one.
    """
    known = actuator_types()
    if name not in known:
        raise ActuatorError(f"no actuator is called {name!r}", hint=did_you_mean(name, known))
    return known[name]
