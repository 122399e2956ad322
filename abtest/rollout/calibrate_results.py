"""What a calibration says: how often the policy is wrong, how soon it is right, and why it may be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy import special

from abtest.display import NOTHING
from abtest.errors import InvalidInputError
from abtest.results import Finding, ToDict

if TYPE_CHECKING:
    from abtest.display import Table


@dataclass(frozen=True)
class Share(ToDict):
    """A share of runs, with its exact 95 % interval [Clopper and Pearson 1934]."""

    count: int
    runs: int
    share: float | None
    lower: float | None
    upper: float | None

    @classmethod
    def of(cls, count: int, runs: int, level: float = 0.95) -> Share:
        """Return `count` of `runs`; without runs nothing is known."""
        if not 0 <= count <= runs:
            raise InvalidInputError(f"{count} of {runs} runs")
        if not runs:
            return cls(0, 0, None, None, None)
        tail = (1 - level) / 2
        lower = 0.0 if count == 0 else float(special.betaincinv(count, runs - count + 1, tail))
        upper = 1.0 if count == runs else float(special.betaincinv(count + 1, runs - count, 1 - tail))
        return cls(count, runs, count / runs, lower, upper)

    def words(self) -> str:
        """Return "3 of 200 (1.5 %, 95 % interval 0.3 to 4.3 %)"."""
        if self.share is None or self.lower is None or self.upper is None:
            return "no run"
        return f"{self.count} of {self.runs} ({percent(self.share)} %, 95 % interval {percent(self.lower)} to {percent(self.upper)} %)"


@dataclass(frozen=True)
class HarmStudy(ToDict):
    """What happens when one guardrail is harmed by so many margins.

    Attributes:
        metric, action: The guardrail.
        multiple: The harm in margins; 1 is exactly the margin, which is allowed.
        margin, margin_kind: The margin.
        detected: Runs in which the policy halted, or (for action "hold") the metric's harm was proven.
        promoted: Runs in which the policy said promote or ship at least once all the same.
        median_hours: Median of the hours until it was detected, from the first exposure; None when less than half detect it.
        median_units: Median of the units (what is randomised) that had met the candidate by then; None likewise.
        hours: The hours of the runs that detected it, in order.
        status: "ok", or "unsupported": such a harm cannot be (a rate above 1).
    """

    metric: str
    action: str
    multiple: float
    margin: float
    margin_kind: str
    detected: Share
    promoted: Share
    median_hours: float | None
    median_units: float | None
    hours: tuple[float, ...]
    status: str = "ok"


@dataclass(frozen=True)
class Calibration(ToDict):
    """The policy replayed on the baseline: the contract `abtest.calibrate/1`.

    Attributes:
        experiment, revision, policy_sha256: Which policy.
        baseline: What it was replayed on: source, hours, calls, units, unit, randomised, randomised_units.
        runs, harmed_runs, seed, every_hours, widen: How.
        nominal: The error the policy promises for false halts, over all looks, stages and guardrails.
        alpha: The error of calling a guardrail safe that is exactly at its margin.
        false_halts: Runs without any harm in which the policy found harm.
        timeouts: Runs without any harm that were halted because time ran out.
        halted_by: Metric -> its false halts.
        promoted: Runs without harm in which the ramp was widened at least once; ended: what became of them, by last word.
        stages: For each stage: label, share, entered (runs without harm that reached it), median hours until then.
        harms: One study a guardrail and multiple.
        findings: What is worth saying.
        seconds: What it cost.
    """

    experiment: str
    revision: int
    policy_sha256: str
    baseline: Mapping[str, Any]
    runs: int
    harmed_runs: int
    seed: int
    every_hours: int
    widen: str
    nominal: float
    alpha: float
    false_halts: Share
    timeouts: Share
    halted_by: Mapping[str, int]
    promoted: Share
    ended: Mapping[str, int]
    stages: Sequence[Mapping[str, Any]]
    harms: tuple[HarmStudy, ...]
    findings: tuple[Finding, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.calibrate/1`."""
        return {"schema": "abtest.calibrate/1", **super().to_dict()}

    def __repr__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Return it for a terminal."""
        lines = [*self._sentences(), "", self.table().to_text()] if self.harms else self._sentences()
        return "\n".join([*lines, "", *(f"{_MARKS[f.severity]} {f.message}" for f in self.findings)]).rstrip()

    def _repr_html_(self) -> str:
        """Show the sentences, the table and the findings in a notebook."""
        from abtest.display import escape_html

        said = [*self._sentences(), *(f.message for f in self.findings)]
        paragraphs = "".join(f"<p>{escape_html(line)}</p>" for line in said)
        return f"{paragraphs}{self.table().to_html(styled=True)}"

    def table(self) -> Table:
        """Return the studies of harm as a table."""
        from abtest.display import Column, Table

        heads = [
            "metric",
            "harm",
            *(Column(name, "right") for name in ("detected", "after", "users by then", "promoted anyway")),
        ]
        rows = [
            [
                h.metric, f"{h.multiple:g} x margin", *(
                    ["cannot be", None, None, None] if h.status != "ok" else
                    [_of(h.detected), _hours(h.median_hours), _count(h.median_units), _of(h.promoted)]
                ),
            ]
            for h in self.harms
        ]  # fmt: skip
        notes = [f"{self.harmed_runs} runs a row; medians over all runs, a dash where less than half detect the harm"]
        return Table(heads, rows, notes=notes, data=[h.to_dict() for h in self.harms])

    def to_polars(self) -> Any:
        """Return the studies of harm as a polars frame."""
        import polars

        flat = [
            {
                **{k: v for k, v in h.to_dict().items() if k not in ("detected", "promoted", "hours")},
                **{f"{name}_{k}": v for name in ("detected", "promoted") for k, v in getattr(h, name).to_dict().items()},
            }
            for h in self.harms
        ]  # fmt: skip
        return polars.DataFrame(flat, infer_schema_length=None)

    def plot(self, what: str = "detection") -> Any:
        """Return an Altair picture: "detection" (share detected over time), "halts" or "promotes" (errors with intervals)."""
        from abtest.charts.calibration import PICTURES

        if what not in PICTURES:
            raise InvalidInputError(f"no picture {what!r}", hint=f"one of {', '.join(PICTURES)}")
        return PICTURES[what](self.to_dict())

    def harm(self, metric: str, multiple: float) -> HarmStudy:
        """Return one study; raises KeyError for one that was not made."""
        for study in self.harms:
            if (study.metric, study.multiple) == (metric, multiple):
                return study
        raise KeyError((metric, multiple))

    def _sentences(self) -> list[str]:
        b = self.baseline
        days = b["hours"] / 24
        who = f"{b['randomised_units']:,} {b['randomised']}s"
        looks = "every hour" if self.every_hours == 1 else f"every {self.every_hours} hours"
        widened = (
            "the policy's own promotions widen the ramp"
            if self.widen == "policy"
            else "the ramp widens by the calendar"
        )
        replayed = (
            f"{self.experiment}, revision {self.revision}: {self.runs} replays on {b['calls']:,} calls of {who} in {days:.1f} days "
            f"({b['source_words']}), looked at {looks}; {widened}"
        )
        by = f" ({', '.join(f'{name}: {n}' for name, n in self.halted_by.items())})" if self.halted_by else ""
        return [
            replayed,
            f"False halts: {self.false_halts.words()}; the policy promises at most {percent(self.nominal)} %{by}",
            *([f"Halted because time ran out: {self.timeouts.words()}"] if self.timeouts.count else []),
            "; ".join([
                f"Without harm, {self.promoted.count} of {self.promoted.runs} runs were promoted at least once",
                *(f"{s['label']} reached by {s['entered']}{_when(s['median_hours'])}" for s in self.stages[1:]),
            ]),
        ]  # fmt: skip


_MARKS = {"info": "-", "warning": "!", "error": "!!", "critical": "!!"}


def percent(value: float) -> str:
    """Return a share in per cent with the decimals that matter: 0.49, 4.3, 27."""
    number = 100 * value
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"


def median(values: Sequence[float], runs: int) -> float | None:
    """Return the median over all runs, of which those without a value are later than any; None when that is its value."""
    ordered = sorted(values)
    middle = (runs - 1) / 2
    low, high = int(middle), int(middle + 0.5)
    return (ordered[low] + ordered[high]) / 2 if runs and high < len(ordered) else None


def _of(share: Share) -> str:
    if share.share is None or share.lower is None or share.upper is None:
        return NOTHING
    return f"{percent(share.share)} % ({percent(share.lower)} to {percent(share.upper)})"


def _hours(hours: float | None) -> str | None:
    return None if hours is None else f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.1f} days"


def _when(hours: float | None) -> str:
    return "" if hours is None else f" (median {_hours(hours)})"


def _count(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"
