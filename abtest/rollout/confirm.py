"""Has the traffic really stopped? A halt is confirmed by the logs, not by the flag file.

After a halt the next decisions look at the calls since it was carried out. The treatment has to fall silent while control
goes on: with a share s of the units, n units of control without one of the treatment happen by chance with probability
(1 - s)^n, and silence is claimed when that is at most 1 %. A treatment that still has calls after the grace of the spec
(`[halt] confirm_within`) is a halt that does not work. Calls count as everywhere: shown to a user, inside the population.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from abtest.analysis.read import facts_of
from abtest.analysis.times import to_text, to_us
from abtest.metrics.base import duration_seconds
from abtest.results import Finding
from abtest.rollout.facts import carried_out_us, standing_halt
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.query import Query, Scan, fill, query
from abtest.store.store import Store

BY_CHANCE = 0.01
"""Silence of the treatment is claimed when it would come by chance this rarely."""
UNITS_WITHOUT_SHARE = 100
"""Units of control that must follow where the treatment's share is not known."""

State = Literal["waiting", "halt_confirmed", "halt_not_effective"]


@dataclass(frozen=True)
class Confirmation:
    """What the logs say of a halt.

    Attributes:
        state: Waiting for traffic, confirmed, or not effective.
        halt: The decision that halted.
        at_us: When it was carried out.
        seconds: From then to the treatment's last call; 0 when none came after.
        control_units: Units of control since then.
        needed: Units of control that are asked for.
        until_us: The watermark up to which this was seen.
        new: The state has changed.
    """

    state: State
    halt: str
    at_us: int
    seconds: float = 0.0
    control_units: int = 0
    needed: int = 0
    until_us: int = 0
    new: bool = False

    def finding(self, experiment: Experiment) -> Finding | None:
        """Return it as a finding of the decision; None while it waits."""
        treatment, control = experiment.treatments[0], experiment.control
        if self.state == "halt_confirmed":
            words = f"traffic of {treatment} stopped {self.seconds:.1f} s after the halt; {self.control_units:,} units of {control} since"
            return Finding(self.state, "info", None, words)
        if self.state == "halt_not_effective":
            allowed = experiment.halt.confirm_within
            words = f"{treatment} still gets traffic {self.seconds:.0f} s after the halt ({allowed} are allowed): stop it by hand"
            return Finding(self.state, "critical", None, words)
        return None

    def body(self) -> dict[str, Any]:
        """Return what the ledger keeps."""
        return {
            "event": self.state, "halt": self.halt, "at": to_text(self.at_us), "seconds": self.seconds,
            "control_units": self.control_units, "needed": self.needed, "until_us": self.until_us,
        }  # fmt: skip


def confirm(
    store: Store,
    experiment: Experiment,
    scan: Scan,
    past: Sequence[ledger.Entry],
    *,
    share: float | None,
    now_us: int,
    write: bool,
) -> Confirmation | None:
    """Look whether the halt that stands has stopped the treatment's traffic; each change goes into the ledger once.

    Args:
        store: An open store.
        experiment: Says how long the traffic may go on.
        scan: How this experiment's calls are read; it is applied to all that is in the store.
        past: The ledger's entries of this experiment and revision.
        share: The treatment's share before the halt; None when it is not known.
        now_us: The clock: an override that lifts the halt ends the watching.
        write: Whether the ledger may be written.

    Returns:
        None when nothing is halted.
    """
    began = standing_halt(past, now_us)
    if began is None:
        return None
    known, until_us = _known(began, past), store.newest_us()
    if until_us is None or until_us <= max(known.at_us, known.until_us):
        return known
    scan = scan.at(
        measures=(), limits={}, caps={}, stage_starts_us=(), units=None, without=None, nameless=False, since=None,
        as_of_us=min(until_us, to_us(experiment.end)) if experiment.end else until_us, max_file=store.last_file(),
    )  # fmt: skip
    scan = scan.at(facts=facts_of(store.engine, scan))
    found = _looked(store, experiment, scan, known, share)
    if found.new and write:
        ledger.append(
            store.connection, "watch", experiment.id, experiment.revision, found.body(), decision_id=found.halt
        )
    return found


def units_needed(share: float | None) -> int:
    """Return how many units of control without one of the treatment are no chance: ln(0.01) / ln(1 - share)."""
    return UNITS_WITHOUT_SHARE if share is None else math.ceil(math.log(BY_CHANCE) / math.log1p(-share))


def calls_query(scan: Scan) -> Query:
    """Return the query of calls, units and the last call of each arm since the scan's start."""
    params = scan.params()
    return query(fill("confirm", calls=scan.calls(params, {})), params)


def assigned_query(scan: Scan) -> Query:
    """Return the query of what was assigned since the scan's start; kept as `assigned`."""
    text, params = scan.assigned()
    return query(fill("confirm_assigned", assigned=text), {**params, "since": scan.start_us})


# -- parts -------------------------------------------------------------------------------------------------------


def _known(began: ledger.Entry, past: Sequence[ledger.Entry]) -> Confirmation:
    """Return what the ledger says: when the halt was carried out, and what was seen since."""
    ident = str(began.decision_id)
    at_us = carried_out_us(began, past)
    known = Confirmation("waiting", ident, began.recorded_us if at_us is None else at_us)
    for body in (e.body for e in past if e.kind == "watch" and e.decision_id == ident and e.seq > began.seq):
        if body["event"] in ("halt_confirmed", "halt_not_effective"):
            known = replace(
                known, state=body["event"], seconds=body["seconds"], control_units=body["control_units"],
                needed=body["needed"], until_us=body["until_us"],
            )  # fmt: skip
    return known


def _looked(store: Store, experiment: Experiment, scan: Scan, known: Confirmation, share: float | None) -> Confirmation:
    until_us, at_us = scan.as_of_us, known.at_us
    grace_us = round(duration_seconds(experiment.halt.confirm_within) * 1e6)
    # What was confirmed is undone by a call that came after it; what was seen before then is not looked at again.
    since_us = known.until_us if known.state == "halt_confirmed" else at_us
    rows = _arms_since(store, scan, since_us + 1)
    last_us = max((int(r["last_us"]) for arm, r in rows.items() if arm in experiment.treatments), default=None)
    if known.state == "halt_confirmed":
        if last_us is None:
            return known
        return _changed(known, "halt_not_effective", last_us, until_us)
    if last_us is not None:
        rows = _arms_since(store, scan, last_us + 1)
    units = int(rows[experiment.control]["units"]) if experiment.control in rows else 0
    found = replace(known, control_units=units, needed=units_needed(share))
    late = known.state == "halt_not_effective" or (last_us is not None and last_us > at_us + grace_us)
    silent_us = until_us - (last_us or at_us)
    if units >= found.needed and (not late or silent_us >= grace_us):
        return _changed(found, "halt_confirmed", last_us, until_us)
    if late and known.state == "waiting":
        return _changed(found, "halt_not_effective", last_us, until_us)
    return known


def _changed(found: Confirmation, state: State, last_us: int | None, until_us: int) -> Confirmation:
    seconds = max(0.0, (last_us - found.at_us) / 1e6) if last_us is not None else 0.0
    return replace(found, state=state, seconds=seconds, until_us=until_us, new=True)


def _arms_since(store: Store, scan: Scan, since_us: int) -> Mapping[str, Mapping[str, Any]]:
    """Return calls, units and the last call of each arm since a moment."""
    late, engine = scan.at(start_us=since_us), store.engine
    if late.facts.assignments:
        engine.keep("assigned", *assigned_query(late))
    return {str(row["arm"]): row for row in engine.rows(*calls_query(late))}
