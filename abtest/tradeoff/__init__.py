"""Fine-tune or prompt: quality, cost and latency of techniques in one decision, and the volume at which it turns.

    contrasts.py    quality, saving, latency as contrasts with their variance (moments.py: exact sums over units)
    legs.py         the tests of one condition; judge.py the decision on all of them
    economics.py    fixed costs, break-even, scenarios; sensitivity.py which inputs turn the verdict
    read.py         one row a request and technique out of the logs; design.py how they were compared
    beside.py       segments, error categories, format by turn
    run.py          `tradeoff`; results.py what it answers; tables.py, words.py how it reads; record.py what is kept of it

The module can be called: `abtest.tradeoff(store, spec)` is `abtest.tradeoff.tradeoff(store, spec)`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Every decision asks for recorded tradeoffs, so this much is light; the rest is loaded when it is used.
from abtest.tradeoff.record import findings, latest, record

if TYPE_CHECKING:
    from abtest.tradeoff.results import Comparison, Tradeoff
    from abtest.tradeoff.run import tradeoff
    from abtest.tradeoff_spec import TradeoffSpec

_HOME = {
    "Comparison": "abtest.tradeoff.results",
    "Tradeoff": "abtest.tradeoff.results",
    "TradeoffSpec": "abtest.tradeoff_spec",
    "tradeoff": "abtest.tradeoff.run",
}
__all__ = ["Comparison", "Tradeoff", "TradeoffSpec", "findings", "latest", "record", "tradeoff"]


class _Callable(ModuleType):
    """Importing a part of this package must not hide the function of the same name behind the module."""

    def __call__(self, *args: Any, **named: Any) -> Tradeoff:
        from abtest.tradeoff.run import tradeoff

        return tradeoff(*args, **named)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


sys.modules[__name__].__class__ = _Callable
