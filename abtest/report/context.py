"""What a section may know of one experiment: tidy dicts, and the questions that several sections ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abtest.display import clean, metric_label, shorten
from abtest.report.model import Entry
from abtest.results import plain

NOT_TRUSTED, NO_DATA = 30, 40
"""Exit codes of a hold because the data cannot be trusted, or because there are none."""
_LONGEST = 500
"""A text in the report is cut after this many characters; the JSON keeps it whole."""


def tidy(value: Any) -> Any:
    """Return JSON-ready objects whose texts are on one line, without control characters, and not endless."""
    if isinstance(value, Mapping):
        return {shorten(k, 200): tidy(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [tidy(v) for v in value]
    if isinstance(value, str):
        return shorten(value, _LONGEST)
    known = value is None or isinstance(value, (bool, int, float))
    return plain(value) if known else shorten(value, _LONGEST)


class Context:
    """One experiment for the sections: `analysis`, `decision` and `history` as tidy dicts.

    Attributes:
        analysis: `abtest.analysis/1`.
        decision: `abtest.decision/1`, or None when nothing was decided.
        history: Earlier decisions of this revision, oldest first, without the current one.
        older: Earlier decisions of other revisions, oldest first.
        versions: What the arms ran, or None when nobody looked.
        looks: Recorded looks at its indexes.
        tradeoffs: Recorded tradeoffs about it.
    """

    def __init__(self, entry: Entry) -> None:
        """Turn results into tidy dicts and sort the history by time."""
        self.analysis: dict[str, Any] = tidy(entry.analysis.to_dict())
        self.decision: dict[str, Any] | None = tidy(entry.decision.to_dict()) if entry.decision else None
        self.versions: dict[str, Any] | None = tidy(entry.versions.to_dict()) if entry.versions else None
        current = (self.decision or {}).get("decision_id")
        records: list[dict[str, Any]] = [tidy(plain(record)) for record in entry.history]
        records = [r for r in records if r.get("decision")]
        self._recorded = current is not None and any(r.get("decision_id") == current for r in records)
        records = [r for r in records if current is None or r.get("decision_id") != current]
        records.sort(key=lambda r: str(r.get("as_of") or ""))
        revision = self.analysis["revision"]
        self.history = [r for r in records if r.get("revision", revision) == revision]
        self.looks: list[dict[str, Any]] = [tidy(plain(look)) for look in entry.looks]
        self.tradeoffs: list[dict[str, Any]] = [tidy(plain(found)) for found in entry.tradeoffs]
        self.older = [r for r in records if r.get("revision", revision) != revision]

    # --- metrics ----------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All metrics, in the order of the analysis."""
        return self.analysis["metrics"]

    @property
    def guardrails(self) -> list[dict[str, Any]]:
        """Metrics that can stop or hold the release."""
        return [m for m in self.metrics if m["role"] == "guardrail"]

    @property
    def successes(self) -> list[dict[str, Any]]:
        """Metrics that say whether the release is better."""
        return [m for m in self.metrics if m["role"] == "success"]

    @property
    def others(self) -> list[dict[str, Any]]:
        """Metrics for information only."""
        return [m for m in self.metrics if m["role"] not in ("guardrail", "success")]

    @property
    def several_treatments(self) -> bool:
        """Whether more than one treatment is compared with control."""
        return len({m["treatment"] for m in self.metrics}) > 1

    def label(self, metric: Mapping[str, Any]) -> str:
        """Return the metric's name as the report writes it."""
        return metric_label(metric, with_treatment=self.several_treatments)

    @property
    def treatment(self) -> str:
        """The treatment's name; with several or none of them, words for it."""
        names = {m["treatment"] for m in self.metrics} or {
            arm["name"] for arm in self.analysis["arms"] if arm["name"] != self.analysis["control"]
        }
        return shorten(next(iter(names)), 40) if len(names) == 1 else "the treatment"

    # --- decision ---------------------------------------------------------------------------------------------------

    @property
    def verdict(self) -> str | None:
        """The decision's word (promote, hold, halt, ship), or None."""
        return self.decision["decision"] if self.decision else None

    @property
    def dry_run(self) -> bool:
        """Whether the decision was only tried: a dry run that repeats what the history holds is not."""
        if self.decision is None or not self.decision["dry_run"]:
            return False
        repeated = bool(self.history) and self.history[-1]["decision"] == self.verdict
        return not (self._recorded or repeated)

    @property
    def stage(self) -> dict[str, Any]:
        """The stage of the decision, else of the analysis."""
        return (self.decision or self.analysis)["stage"]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The decision's findings."""
        return self.decision["findings"] if self.decision else []

    def has_finding(self, code: str) -> bool:
        """Return whether the decision has a finding with this code."""
        return any(finding["code"] == code for finding in self.findings)

    def since(self) -> str | None:
        """Return since when the decision stands: the first time of the unbroken run of equal decisions up to now.

        Hold, promote and ship count anew in each stage; a halt latches, so it does not.
        """
        if self.decision is None:
            return None
        since, word = self.decision["as_of"], self.verdict
        for record in reversed(self.history):
            other_stage = word != "halt" and stage_index(record, self.stage["index"]) != self.stage["index"]
            if record.get("decision") != word or other_stage:
                break
            since = record.get("as_of") or since
        return since


def stage_index(record: Mapping[str, Any], default: Any) -> Any:
    """Return the stage's index of a stored decision, which may hold the whole stage or only its index."""
    stage: Any = record.get("stage", default)
    return stage.get("index", default) if isinstance(stage, Mapping) else stage


def stage_label(record: Mapping[str, Any]) -> str:
    """Return the stage of a stored decision in words."""
    stage: Any = record.get("stage")
    if isinstance(stage, Mapping):
        return shorten(stage.get("label") or f"stage {stage.get('index')}", 40)
    return "" if stage is None else f"stage {clean(stage)}"
