"""Logs with a known truth, for the demo, for tests and for planning.

>>> from abtest.simulate import simulate
>>> logs = simulate("refusal-regression", users=100, seed=1)
>>> round(logs.truth["metrics"]["refusal_rate"]["effect"], 12), logs.truth["expected"]["exit_code"]
(0.04, 20)

`scenarios` says what can be wrong, `model` is the law and its true values, `draw` draws, `encode` and `files` write.
"""

from abtest.simulate.draw import Simulation, simulate
from abtest.simulate.files import write
from abtest.simulate.scenarios import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario", "Simulation", "simulate", "write"]
