"""Makes a recorded decision again, from the logs as they were: the same id, or what is different.

The ledger's entry has everything but the logs: the spec, the watermark by event time (`as_of_us`) and by load (`max_file`),
the split that abtest wrote, the clocks and the halts of that moment, and the findings that came from elsewhere. So neither
rows and scores that came later nor a spec that was edited since change what a replay finds. Nothing is written, and the sums
that analyses keep for speed are not used: what is read are the logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from abtest.analysis.analyze import analyze_evidence
from abtest.analysis.read import read
from abtest.analysis.times import parse_moment, to_text
from abtest.errors import AbtestError, UsageError
from abtest.results import Analysis, Finding, ToDict
from abtest.rollout.facts import allocation_history, facts_of
from abtest.rollout.record import decision_of
from abtest.rollout.rules import Facts, conclude
from abtest.rollout.shadow import is_shadow, replay_shadow
from abtest.spec import Experiment, canonical_sha256
from abtest.store import ledger
from abtest.store.store import Store

ReplayStatus = Literal["same", "differs", "pruned", "unknown"]
SHORTEST = 8
"""Hexadecimal digits by which a decision may be named, when no other begins with them."""
_ERASING = ("prune", "forget")
_WORDS = {
    "evidence_sha256": "the logs up to the decision's watermark give other numbers",
    "policy_sha256": "the policy and its frozen constants are others",
    "decision": "the rules come to another decision",
    "reason": "the rules give another reason",
    "decision_id": "the id is another",
}


@dataclass(frozen=True)
class Replay(ToDict):
    """What came out when a decision was made again.

    Attributes:
        decision_id: The recorded id.
        seq: Its entry in the ledger.
        experiment: Of which experiment.
        revision: Of which revision of it.
        recorded_at: When it was recorded.
        summary: What was said then.
        status: "same"; "differs" (the logs, the ledger or the rules are not what they were); "pruned" (rows were removed since, as
            the ledger says, so nobody can tell); "unknown" (cannot be replayed, and why).
        detail: One sentence for people; empty when it is the same.
        recorded: What the ledger says: evidence_sha256, policy_sha256, decision, reason, decision_id.
        replayed: What came out, with the same keys; empty when nothing could be made again.
    """

    decision_id: str
    seq: int
    experiment: str
    revision: int
    recorded_at: str | None
    summary: str
    status: ReplayStatus
    detail: str = ""
    recorded: Mapping[str, Any] = field(default_factory=dict)
    replayed: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.decision_id[:16]} {self.status}: {self.detail or self.summary}"

    def _repr_html_(self) -> str:
        """Show what was recorded beside what came out, in a notebook."""
        from abtest.display import Table, escape_html

        rows = [[key, value, self.replayed.get(key)] for key, value in self.recorded.items()]
        table = Table(("", "recorded", "made again"), rows)
        return f"<p><strong>{escape_html(repr(self))}</strong></p>{table.to_html(styled=True)}"


def replay(store: Store, decision_id: str) -> Replay:
    """Make one decision again; of several entries with this id, the last.

    Args:
        store: An open store; it is not changed.
        decision_id: The id, or its first digits (at least 8) when no other decision begins with them.

    Raises:
        UsageError: no such decision, or several.
    """
    entry = find(store, decision_id)
    return _replayed(store, entry, ledger.entries(store.connection))


def replay_all(store: Store) -> Iterator[Replay]:
    """Make every decision of the ledger again, in the order they were recorded."""
    every = ledger.entries(store.connection)
    for entry in decisions(store):
        yield _replayed(store, entry, every)


def decisions(store: Store) -> list[ledger.Entry]:
    """Return the entries that a replay is of, in order."""
    return ledger.entries(store.connection, kind="decision")


def find(store: Store, decision_id: str) -> ledger.Entry:
    """Return the last entry of a decision, by its id or the beginning of it; raises UsageError."""
    wanted = decision_id.strip().lower()
    decided = decisions(store)
    if len(wanted) < SHORTEST or not set(wanted) <= set("0123456789abcdef"):
        raise UsageError(f"{decision_id!r} is no decision id", key="--replay", hint=f"{SHORTEST} or more of its digits")
    found = [e for e in decided if (e.decision_id or "").startswith(wanted)]
    ids = sorted({str(e.decision_id) for e in found})
    if len(ids) > 1:
        hint = f"write more digits: {', '.join(i[: len(wanted) + 8] for i in ids[:5])}"
        raise UsageError(f"{len(ids)} decisions begin with {decision_id!r}", key="--replay", hint=hint)
    if not found:
        hint = "`abtest verify --replay-all` lists every decision" if decided else "nothing was decided yet"
        raise UsageError(f"the ledger has no decision {decision_id!r}", key="--replay", hint=hint)
    return found[-1]


# -- parts -------------------------------------------------------------------------------------------------------


class _Logs(Store):
    """The same store, of which only the logs are looked at: nothing is written, and no kept sums are used."""

    def __init__(self, store: Store) -> None:
        self.path, self.read_only, self._con = store.path, True, store.connection

    def newest_us(self) -> int | None:
        """Return nothing: sums are kept, and found again, only for the newest event."""
        return None


def _replayed(store: Store, entry: ledger.Entry, every: Sequence[ledger.Entry]) -> Replay:
    body = entry.body
    keys = ("evidence_sha256", "policy_sha256", "decision", "reason")
    recorded = {**{k: body.get(k) for k in keys}, "decision_id": entry.decision_id}
    blank = Replay(
        decision_id=entry.decision_id or "", seq=entry.seq, experiment=entry.experiment, revision=entry.revision,
        recorded_at=to_text(entry.recorded_us), summary=str(body.get("summary", "")), status="unknown", recorded=recorded,
    )  # fmt: skip
    if "spec" not in body or "max_file" not in body:
        return _with(blank, "unknown", "cannot be replayed: the ledger does not say by which spec it was decided")
    try:
        replayed = _again(store, entry, [e for e in every if e.seq < entry.seq])
    except AbtestError as error:
        return _with(blank, "unknown", f"cannot be replayed by this version: {error}")
    except (KeyError, TypeError, ValueError) as error:
        why = f"its entry is not as this version writes them ({type(error).__name__}: {error})"
        return _with(blank, "unknown", f"cannot be replayed: {why}")
    return _compared(blank, replayed, _removed(entry, every), older="facts" not in body)


def _again(store: Store, entry: ledger.Entry, before: Sequence[ledger.Entry]) -> dict[str, Any]:
    """Decide again as the entry was decided, and return what it is to be compared in."""
    body = entry.body
    past = [e for e in before if (e.experiment, e.revision) == (entry.experiment, entry.revision)]
    if is_shadow(entry):
        return replay_shadow(_Logs(store), entry, past)
    experiment = Experiment.from_dict(body["spec"])
    as_of = body["as_of_us"] if "as_of_us" in body else parse_moment(body["as_of"]) if body["as_of"] else None
    history = [(int(at), float(share)) for at, share in body.get("history", allocation_history(past))]
    evidence = read(_Logs(store), experiment, as_of_us=as_of, max_file=int(body["max_file"]), history=history)
    analysis = analyze_evidence(evidence)
    if "facts" in body:
        facts = Facts(**body["facts"])
        outcome = conclude(experiment, analysis, facts, [Finding(**f) for f in body["extra"]])
        ident = decision_of(analysis, outcome, past, facts, False).decision_id
    else:
        stale = any(f["code"] == "stale" for f in body["findings"])
        facts = facts_of(experiment, evidence, past, now_us=entry.recorded_us, judge_age=stale)
        outcome = conclude(experiment, analysis, facts)
        ident = _older_id(analysis, outcome.decision)
    return {
        "evidence_sha256": analysis.evidence_sha256, "policy_sha256": analysis.policy_sha256,
        "decision": outcome.decision, "reason": outcome.reason, "decision_id": ident,
    }  # fmt: skip


def _older_id(analysis: Analysis, decision: str) -> str:
    """Return the id as it was made before entries said what the rules knew: it did not cover the reason."""
    return canonical_sha256({
        "experiment": analysis.experiment, "revision": analysis.revision, "evidence": analysis.evidence_sha256,
        "policy": analysis.policy_sha256, "decision": decision,
    })  # fmt: skip


def _compared(blank: Replay, replayed: Mapping[str, Any], removed: str, *, older: bool) -> Replay:
    different = [key for key in _WORDS if replayed[key] != blank.recorded[key]]
    if not different:
        return _with(blank, "same", "", replayed)
    if removed and "evidence_sha256" in different:
        return _with(blank, "pruned", f"cannot be replayed: {removed}", replayed)
    words = "; ".join(_said(key, blank.recorded, replayed) for key in different[:2])
    if older and not {"evidence_sha256", "policy_sha256"} & set(different):
        why = "evidence and policy are the same; an older version decided, whose rules were others"
        return _with(blank, "unknown", f"cannot be replayed: {why} ({words})", replayed)
    return _with(blank, "differs", words, replayed)


def _said(key: str, recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> str:
    was, now = (str(side[key]) for side in (recorded, replayed))
    if key.endswith(("_sha256", "_id")):
        was, now = was[:16], now[:16]
    return f"{_WORDS[key]} ({key}: recorded {was}, now {now})"


def _removed(entry: ledger.Entry, every: Sequence[ledger.Entry]) -> str:
    """Return what the ledger says was removed from the logs after a decision; empty when nothing was."""
    said: list[str] = []
    for later in every:
        if later.seq > entry.seq and later.kind in _ERASING and any(later.body.get("rows", {}).values()):
            on = (to_text(later.recorded_us) or "")[:10]
            if later.kind == "prune":
                said.append(f"logs before {to_text(int(later.body['before_us']))} were pruned on {on}")
            else:
                said.append(f"a unit was forgotten on {on}")
    return "; ".join(dict.fromkeys(said))


def _with(blank: Replay, status: ReplayStatus, detail: str, replayed: Mapping[str, Any] | None = None) -> Replay:
    return replace(blank, status=status, detail=detail, replayed=replayed or {})
