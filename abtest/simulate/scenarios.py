"""The stories that `simulate` can tell: what is wrong with the candidate, and what abtest should answer.

To change one number, `dataclasses.replace` a scenario and pass the copy to `simulate`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from abtest.errors import UsageError, did_you_mean

RAMP = (0.01, 0.05, 0.20, 0.50)
"""Shares of the treatment, stage by stage; the last one is the A/B stage."""

FORMAT_OK = 0.99
"""Control's share of well-formed answers."""

HELPFULNESS = 0.62
"""Control's mean judge score, 0 to 1."""

STAGE_LENGTHS: Mapping[int, tuple[float, ...]] = MappingProxyType(
    {1: (1.0,), 2: (0.4, 0.6), 3: (0.15, 0.25, 0.6), 4: (0.15, 0.2, 0.25, 0.4)}
)
"""Part of the period that each stage takes, by the number of stages that have happened."""


@dataclass(frozen=True)
class Scenario:
    """One story with a known truth; effects are treatment minus control unless they say otherwise.

    Attributes:
        name: The name on the command line.
        sentence: What is going on, for people.
        decision: What `abtest decide` should say at the default size: promote, ship, hold or halt.
        exit_code: Its exit code (0, 10, 20, 30).
        metric: The metric that the decision should name; None when none is at fault.
        stages: How many stages of `RAMP` have happened, 1 to 4.
        refusal: Refusal rate of control at the start and at the end of the period; linear in between.
        refusal_points: Added to the candidate's refusal rate (0.04 is four points).
        latency_p99: Relative change of the candidate's p99 latency, made in the tail alone.
        cost: Relative change of the candidate's cost of a request (0.6 is 1.6 times as much).
        format_points: Added to the candidate's share of well-formed answers.
        helpfulness: Added to the candidate's mean judge score (0 to 1).
        lost_new_users: Share of the users who start in the candidate and whose logs never arrive.
        contaminated: Share of the users of a stage who are seen in both arms within it.
        old_prompt: Share of the candidate's requests that still run the old prompt.
        no_control: The logs of control are missing.
        flag: Whether a flag file is written and named in the experiment file.
        experiment: The experiment's id in the logs: letters, digits, dots, dashes and underscores.
    """

    name: str
    sentence: str
    decision: str
    exit_code: int
    metric: str | None = None
    stages: int = 3
    refusal: tuple[float, float] = (0.02, 0.03)
    refusal_points: float = 0.0
    latency_p99: float = 0.0
    cost: float = 0.0
    format_points: float = 0.0
    helpfulness: float = 0.0
    lost_new_users: float = 0.0
    contaminated: float = 0.0
    old_prompt: float = 0.0
    no_control: bool = False
    flag: bool = True
    experiment: str = "support-bot-sonnet-swap"

    def __post_init__(self) -> None:
        """Refuse numbers that no logs could have.

        Raises:
            UsageError: A rate outside 0 to 1, a negative cost, an unknown number of stages.
        """
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", self.experiment):
            raise UsageError(
                f"{self.experiment!r} is no experiment id", key="experiment", hint="letters, digits, . _ -"
            )
        if self.stages not in STAGE_LENGTHS:
            raise UsageError(f"no ramp with {self.stages} stages", key="stages", hint="use 1, 2, 3 or 4")
        rates = {
            "refusal": (*self.refusal, *(p + self.refusal_points for p in self.refusal)),
            "format_points": (FORMAT_OK + self.format_points,),
            "helpfulness": (HELPFULNESS + self.helpfulness,),
            "lost_new_users": (self.lost_new_users,),
            "contaminated": (self.contaminated,),
            "old_prompt": (self.old_prompt,),
        }
        for key, values in rates.items():
            if not all(0 <= value <= 1 for value in values):
                raise UsageError("a rate leaves 0 to 1", key=key, hint="choose a smaller effect")
        if not (0 <= self.latency_p99 <= 10 and self.cost > -1 and math.isfinite(self.cost)):
            raise UsageError("impossible effect", key="latency_p99, cost", hint="latency_p99 0 to 10, cost above -1")


_ALL = (
    Scenario("healthy", "The candidate is as good as the baseline; the 20 % canary may go on.", "promote", 0),
    Scenario(
        "refusal-regression",
        "The candidate refuses 4 points more requests.",
        "halt",
        20,
        "refusal_rate",
        refusal_points=0.04,
    ),
    Scenario(
        "rare-refusals",
        "The baseline never refuses; the candidate refuses 5 % of the requests.",
        "halt",
        20,
        "refusal_rate",
        refusal=(0.0, 0.0),
        refusal_points=0.05,
    ),
    Scenario(
        "latency-regression",
        "The candidate's p99 latency is 80 % higher; its median is not.",
        "halt",
        20,
        "latency_p99",
        latency_p99=0.8,
    ),
    Scenario(
        "cost-regression",
        "A request costs 1.6 times as much in the candidate.",
        "halt",
        20,
        "cost_per_request",
        cost=0.6,
    ),
    Scenario(
        "better",
        "The candidate is 0.05 more helpful and harms nothing; the A/B stage may ship.",
        "ship",
        0,
        "helpfulness",
        stages=4,
        helpfulness=0.05,
    ),
    Scenario(
        "sample-ratio-mismatch",
        "A quarter of the users who start in the candidate never reach the logs.",
        "hold",
        30,
        lost_new_users=0.25,
    ),
    Scenario(
        "contaminated",
        "About 5 % of the users see both arms within one stage.",
        "hold",
        30,
        contaminated=0.05,
    ),
    Scenario(
        "format-regression",
        "The candidate breaks the answer format in 3 points more requests.",
        "hold",
        10,
        "format_validity",
        format_points=-0.03,
    ),
    Scenario(
        "mixed-versions",
        "Three in ten requests of the candidate still run the old prompt.",
        "hold",
        30,
        old_prompt=0.3,
    ),
    Scenario("no-control", "The logs of the baseline are missing.", "hold", 30, no_control=True),
    Scenario(
        "drifting-null",
        "Refusals drift from 2 % to 8 % in both arms while the ramp widens; the candidate changes nothing.",
        "hold",
        10,
        stages=4,
        refusal=(0.02, 0.08),
        flag=False,
    ),
)

SCENARIOS: Mapping[str, Scenario] = MappingProxyType({scenario.name: scenario for scenario in _ALL})
"""Every scenario by name, in the order they are shown."""


def find_scenario(name: str) -> Scenario:
    """Return the scenario called `name`.

    Raises:
        UsageError: There is none; the hint names the nearest.
    """
    try:
        return SCENARIOS[name]
    except KeyError:
        raise UsageError(f"unknown scenario {name!r}", key="scenario", hint=did_you_mean(name, SCENARIOS)) from None
