"""The contract of an actuator: what it is asked, what it answers, what it must be able to do.

An actuator changes something outside abtest: a flag file, a webhook, a command. It never opens the store; whatever
the ledger has to keep (the original rules of a flag) comes back in an `ActuatorOutcome`. It acts at most once for one
decision: asked again with the same `decision_id`, it answers `already_done`. What cannot be done raises
`ActuatorError` and leaves the target as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from abtest.errors import ActuatorError
from abtest.results import Action, ToDict


@dataclass(frozen=True)
class Request(ToDict):
    """Which decision acts, and on which arms.

    Attributes:
        experiment: Id of the experiment.
        revision: Its revision; evidence and a latched halt belong to (experiment, revision).
        decision_id: sha256 of the decision; the same id acts once.
        policy_sha256: sha256 of the policy that decided.
        control: Name of the control arm.
        treatments: Names of the treatment arms, at least one.
    """

    experiment: str
    revision: int
    decision_id: str
    policy_sha256: str
    control: str
    treatments: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse arms that cannot be told apart.

        Raises:
            ActuatorError: No treatment, or the control is among the treatments.
        """
        if not self.treatments or self.control in self.treatments:
            raise ActuatorError(
                f"control {self.control!r} and treatments {list(self.treatments)} cannot be told apart",
                hint="give one control and at least one other arm",
            )


@dataclass(frozen=True)
class HaltRequest(Request):
    """Send nobody to the treatments any more; everybody gets the control."""


@dataclass(frozen=True)
class ShareRequest(Request):
    """Send this share of the units to the one treatment, the rest to the control.

    Attributes:
        share: Between 0 and 1, as a plain decimal such as 0.05.
    """

    share: float


@dataclass(frozen=True)
class ActuatorOutcome(ToDict):
    """What was done, and what it replaced.

    Attributes:
        action: For the decision: actuator, status (done, already_done or dry_run), one sentence.
        original: For the ledger: the parts of the target that are changed, as they were; None when nothing is. A dry
            run gives it too, so that it can be recorded before acting and survives a crash in between.
    """

    action: Action
    original: Mapping[str, Any] | None = None


@runtime_checkable
class Actuator(Protocol):
    """Something that can stop an experiment."""

    name: ClassVar[str]

    def check(self, arms: Sequence[str] = ()) -> tuple[str, ...]:
        """Look at the target without touching it; return what is worth a warning.

        Args:
            arms: The experiment's arms, which the target must know.

        Raises:
            ActuatorError: A halt would not work; the error names file, key and what to do.
        """
        ...

    def halt(self, request: HaltRequest, *, dry_run: bool = False) -> ActuatorOutcome:
        """Stop the treatments; with `dry_run` only say what would be done.

        Raises:
            ActuatorError: It could not be done; the target is as it was.
        """
        ...


@runtime_checkable
class TrafficActuator(Actuator, Protocol):
    """An actuator that can also set the treatment's share."""

    def set_share(self, request: ShareRequest, *, dry_run: bool = False) -> ActuatorOutcome:
        """Set the share; with `dry_run` only say what would be done.

        Raises:
            ActuatorError: It could not be done; the target is as it was.
        """
        ...


REGISTRY: dict[str, type[Actuator]] = {}
"""Every actuator class by name; filled by `register` when its file is imported."""

ActuatorClass = TypeVar("ActuatorClass", bound=type[Actuator])


def register(cls: ActuatorClass) -> ActuatorClass:
    """Add an actuator class to the registry under its `name`; a second class of that name is a programming error."""
    assert cls.name not in REGISTRY, f"two actuators are called {cls.name!r}"
    REGISTRY[cls.name] = cls
    return cls
