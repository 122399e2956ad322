"""Whole releases under the product's rule, beside fixed thresholds and a fixed-horizon test read at every look.

A release: sticky users who return (nested hash, five requests each, intra-user correlation 0.2) send latency, refusals and
cost to a canary and to control. Sums at every look go through the functions that a decision uses: `stratified_score`,
`margin_curve`, `bounds_of`, the rate-ratio test on first events, the gates and `takes_rate_ratio` of `analysis/judge.py`.
Run i of a study draws from SeedSequence((seed, i)), so every number can be made again:

    python tests/calibration/release_rules.py --out runs.jsonl          # everything in full, resumable
    python tests/calibration/release_rules.py --out runs.jsonl --table  # the tables of docs/calibration_release.md
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

sys.path.append(str(Path(__file__).resolve().parents[1] / "calibration_score"))

from score_paths import Traffic, alike, control_start, enough, path_sums, stage_ends, traffic, warm_up
from studies_rare import log_e_first_events

from abtest.analysis.constants import MIN_TAIL
from abtest.analysis.evidence import Evidence, Stratum
from abtest.analysis.judge import bounds_of, harm_alpha, tested_margin
from abtest.analysis.rare import PAST_MARGIN_Z, takes_rate_ratio
from abtest.metrics.quantile import QuantileMetric
from abtest.spec import Experiment
from abtest.stats.score import PairSums, stratified_score
from abtest.stats.score_bounds import margin_curve

SHARE, LOOKS, A_USER = 0.05, 48, 5
RAMP, HOURS = (0.01, 0.05, 0.20, 0.50), 24
REFUSALS, SIGMA_LATENCY, SIGMA_COST, ICC = 0.03, 0.6, 1.0, 0.2
HEAVIER = (0.04, 0.9)
"""Refusals and spread of latency with which thresholds halt as many good releases as RELEASES §1 says."""
MARGINS: dict[str, dict[str, float]] = {
    "latency_p99": {"relative": 0.40}, "refusal_points": {"points": 0.05}, "refusal_relative": {"relative": 0.05},
    "cost": {"relative": 0.20},
}  # fmt: skip
GUARDRAILS = tuple(MARGINS)
REGRESSIONS = {
    "p99 +60 %": ("latency_p99", {"latency": 0.6}), "refusals +10 points": ("refusal_points", {"refused": 0.10}),
    "cost x2": ("cost", {"cost": 1.0}), "p99 +100 %": ("latency_p99", {"latency": 1.0}),
}  # fmt: skip
AT_MARGIN = {
    "latency_p99": {"latency": 0.4}, "refusal_points": {"refused": 0.05}, "refusal_relative": {"refused": 0.05 * REFUSALS},
    "cost": {"cost": 0.2},
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "latency_p99": {"kind": "quantile", "value": "latency_ms", "q": 0.99},
    "refusal_points": {"kind": "proportion", "event": "refused"},
    "refusal_relative": {"kind": "proportion", "event": "refused"},
    "cost": {"kind": "mean", "value": "cost_usd"},
}


def experiment(shares: Sequence[float]) -> Experiment:
    """Return the spec: four halting guardrails that share the default budget of 1 %."""
    metrics = [
        {"name": n, "better": "lower", **KINDS[n], "guardrail": {"margin": MARGINS[n], "action": "halt"}}
        for n in MARGINS
    ]
    return Experiment.from_dict({
        "id": "release", "control": "a", "treatments": ["b"], "metrics": metrics,
        "ramp": [{"stage": "canary", "share": q} for q in shares],
    })  # fmt: skip


# -- traffic -----------------------------------------------------------------------------------------------------------


def release(rng: np.random.Generator, canary_requests: int) -> Traffic:
    """Return the traffic of a canary of 5 % with so many requests a look (19 times as many in control), 48 looks."""
    rows = round(canary_requests * LOOKS / SHARE)
    return traffic(rng, rows // A_USER, rows, (SHARE,), LOOKS)


def values_of(
    rng: np.random.Generator, t: Traffic, worse: dict[str, float], *, heavier: bool = False
) -> dict[str, np.ndarray]:
    """Return latency, refused and cost of every request; `worse`: by what the treatment's are worse."""
    treated = t.arm == 1
    base, spread = HEAVIER if heavier else (REFUSALS, SIGMA_LATENCY)
    latency = 800.0 * np.exp(spread * special.ndtri(alike(rng, t, ICC)))
    refused = alike(rng, t, ICC) < base + worse.get("refused", 0.0) * treated
    cost = 0.004 * np.exp(SIGMA_COST * special.ndtri(alike(rng, t, ICC)))
    return {
        "latency": latency * np.where(treated, 1 + worse.get("latency", 0.0), 1.0),
        "refused": refused.astype(float),
        "cost": cost * np.where(treated, 1 + worse.get("cost", 0.0), 1.0),
    }


def column_of(name: str, values: dict[str, np.ndarray]) -> np.ndarray:
    return values["latency" if name == "latency_p99" else "cost" if name == "cost" else "refused"]


# -- our rule ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """Whether a guardrail says harm, and safe, at each look; `limit`: whether one look at the very end would have said harm."""

    harm: np.ndarray
    safe: np.ndarray
    limit: bool = False


def judged(asked: Experiment, name: str, t: Traffic, value: np.ndarray, sums: PairSums | None = None) -> Said:
    """Return what `abtest decide` would say of one guardrail at every look, the logs cut there.

    The constants come from the warm-up, as in analysis/constants.py, and nothing is said before it is over. `sums`: those of
    the value itself, where they are known already.
    """
    j = GUARDRAILS.index(name)
    spec = asked.metrics[j]
    frozen, x, known_at = _constants(spec, t, value)
    if frozen is None:
        return Said(np.zeros(t.looks, dtype=bool), np.zeros(t.looks, dtype=bool))
    strata = tuple(Stratum(k, k, q, k, f"canary {q:g}", "canary") for k, q in enumerate(t.shares))
    evidence = Evidence(asked, None, strata, t.looks, 0, {name: frozen}, (j,))  # type: ignore[arg-type]
    shares = [evidence.pair_share(s) for s in strata]
    sums = path_sums(t, x) if sums is None or isinstance(spec, QuantileMetric) else sums
    score = stratified_score(sums, shares, proportion=spec.kind != "mean", latches=stage_ends(t))
    kind, tested = tested_margin(spec)
    curve = margin_curve(score, kind, tested)
    plain = curve if kind == "absolute" else margin_curve(score, "absolute", 0.0)
    bounds = bounds_of(evidence, spec, curve, plain, takes_rate_ratio(spec))
    ready = enough(score) & (np.arange(t.looks) >= known_at)
    contrast = score.contrast(tested, kind)
    if isinstance(spec, QuantileMetric):
        ready &= score.sums.y.sum(axis=1).min(axis=0) * (1 - spec.q) >= MIN_TAIL
    ready &= contrast.v > 0
    harm, safe = ready & (bounds.harm_lower > tested), ready & (bounds.harm_upper < tested)
    if takes_rate_ratio(spec):
        rejects = log_e_first_events(t, x) >= -math.log(harm_alpha(evidence, spec, shared=True))
        past = (contrast.score > 0) & (contrast.score > PAST_MARGIN_Z * np.sqrt(contrast.v))
        harm |= rejects & past
    level = float(special.ndtri(1 - asked.halt_alpha(spec)))
    limit = ready[-1] and contrast.score[-1] > level * math.sqrt(contrast.v_plug[-1])
    return Said(harm, safe & ~harm, bool(limit))


def _constants(spec: Any, t: Traffic, value: np.ndarray) -> tuple[dict[str, float] | None, np.ndarray, int]:
    """Return the frozen constants, what is summed, and the look from which on they are known."""
    tail = 1 - spec.q if isinstance(spec, QuantileMetric) else 1.0
    units = 200
    while (rows := start_of(t, units)) is not None and len(rows) * tail < MIN_TAIL:
        units *= 2
    if rows is None:
        return None, value, t.looks
    known_at, early = int(t.look[rows[-1]]), head(t, int(rows[-1]) + 1)
    if not isinstance(spec, QuantileMetric):
        return warm_up(early, value[: early.rows]), value, known_at
    threshold = float(np.quantile(value[rows], spec.q))
    limit = np.where(t.arm == 1, (1 + spec.guardrail.margin.value) * threshold, threshold)  # type: ignore[union-attr]
    return {"threshold": threshold}, (value > limit).astype(float), known_at


def start_of(t: Traffic, units: int) -> np.ndarray | None:
    """Return the rows of control up to the arrival of its n-th unit, None when there are fewer; looks no further than needed."""
    rows = units * 2
    while rows < t.rows and _seen(t, rows) < units:
        rows *= 2
    return control_start(head(t, rows), units) if _seen(t, rows) >= units else None


def _seen(t: Traffic, rows: int) -> int:
    return np.unique(t.unit[:rows][t.arm[:rows] == 0]).size


def head(t: Traffic, rows: int) -> Traffic:
    """Return the first rows."""
    return Traffic(*(a[:rows] for a in (t.unit, t.look, t.stage, t.arm, t.time)), t.users, t.looks, t.shares)


# -- what others do ----------------------------------------------------------------------------------------------------


def by_threshold(name: str, t: Traffic, value: np.ndarray) -> np.ndarray:
    """Return (B,) whether the arms' numbers of the look itself differ by more than the margin."""
    margin = next(iter(MARGINS[name].values()))
    out = np.zeros(t.looks, dtype=bool)
    edges = np.searchsorted(t.look, np.arange(t.looks + 1))
    for b in range(t.looks):
        part, arm = value[edges[b] : edges[b + 1]], t.arm[edges[b] : edges[b + 1]]
        mine, theirs = part[arm == 1], part[arm == 0]
        if not mine.size or not theirs.size:
            continue
        if name == "latency_p99":
            high, low = np.quantile(mine, 0.99), np.quantile(theirs, 0.99)
        else:
            high, low = mine.mean(), theirs.mean()
        out[b] = high - low > margin if "points" in MARGINS[name] else high > (1 + margin) * low
    return out


def by_fixed_test(name: str, t: Traffic, value: np.ndarray, alpha: float = 0.05) -> np.ndarray:
    """Return (B,) whether a one-sided z test of "no worse than control", requests as rows, says p < alpha so far."""
    if name == "latency_p99":
        value = (value > np.quantile(value[t.arm == 0], 0.99)).astype(float)

    def so_far(what: np.ndarray) -> np.ndarray:
        table = np.bincount(t.arm * t.looks + t.look, weights=what, minlength=2 * t.looks).reshape(2, t.looks)
        return np.cumsum(table, axis=1)

    n, total, squares = so_far(np.ones(t.rows)), so_far(value), so_far(value * value)
    size = np.maximum(n, 1.0)
    error = np.sqrt(np.maximum((squares / size - (total / size) ** 2) / size, 0.0).sum(axis=0))
    gap = total[1] / size[1] - total[0] / size[0]
    return (n.min(axis=0) > 1) & (error > 0) & (gap > special.ndtri(1 - alpha) * error)


# -- studies -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """One simulated cell; `kind` is null, harm or margin, `what` names the regression or the guardrail."""

    kind: str
    what: str
    canary_requests: int
    seed: int
    reduced: int
    full: int

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.what}, {self.canary_requests} canary requests a look"

    def run(self, i: int) -> dict[str, Any]:
        """Return what happened in release number i."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, i)))
        return {"null": null_run, "harm": harm_run, "margin": margin_run}[self.kind](rng, self)


def null_run(rng: np.random.Generator, study: Study) -> dict[str, Any]:
    """Identical arms: the first look at which each rule halts for each guardrail, None for never."""
    t = release(rng, study.canary_requests)
    values = values_of(rng, t, {}, heavier="heavier" in study.what)
    out: dict[str, Any] = {}
    asked, refusals = experiment((SHARE,)), path_sums(t, values["refused"])
    for name in GUARDRAILS:
        value = column_of(name, values)
        sums = refusals if name.startswith("refusal") else None
        out |= _stops(name, t, value, judged(asked, name, t, value, sums).harm)
    return out


def harm_run(rng: np.random.Generator, study: Study) -> dict[str, Any]:
    """One regression: when its own guardrail halts, and how many users the canary had answered by then."""
    name, worse = REGRESSIONS[study.what]
    t = release(rng, study.canary_requests)
    value = column_of(name, values_of(rng, t, worse))
    said = judged(experiment((SHARE,)), name, t, value)
    stops = _stops(name, t, value, said.harm)
    treated = np.flatnonzero(t.arm == 1)
    _, first = np.unique(t.unit[treated], return_index=True)
    arrived = np.cumsum(np.bincount(t.look[treated[first]], minlength=t.looks))
    users = {f"{rule}|users": None if at is None else int(arrived[at]) for rule, at in stops.items()}
    return {**stops, **users, "limit": t.looks - 1 if said.limit else None}


def _stops(name: str, t: Traffic, value: np.ndarray, ours: np.ndarray) -> dict[str, Any]:
    rules = {"threshold": by_threshold(name, t, value), "fixed": by_fixed_test(name, t, value), "ours": ours}
    return {f"{name}|{rule}": int(np.argmax(hit)) if hit.any() else None for rule, hit in rules.items()}


def margin_run(rng: np.random.Generator, study: Study) -> dict[str, Any]:
    """Harm exactly at the margin of one guardrail, ramp 1 -> 5 -> 20 -> 50 %, hourly looks: is it ever called safe?"""
    rows = 40_000 if study.what == "latency_p99" else 15_000
    t = traffic(rng, rows // A_USER, rows, RAMP, HOURS)
    value = column_of(study.what, values_of(rng, t, AT_MARGIN[study.what]))
    said = judged(experiment(RAMP), study.what, t, value)
    return {
        "safe": int(np.argmax(said.safe)) if said.safe.any() else None,
        "harm": int(np.argmax(said.harm)) if said.harm.any() else None,
    }


NULLS = (
    Study("null", "identical arms", 50, 901, 12, 2000),
    Study("null", "identical arms", 200, 902, 4, 2000),
    Study("null", "identical arms, heavier tails", 50, 903, 8, 2000),
)
HARMS = tuple(
    Study("harm", what, n, 911 + 10 * k + i, 8 - 4 * k, 500)
    for k, n in enumerate((50, 200)) for i, what in enumerate(REGRESSIONS)
)  # fmt: skip
MORE_TRAFFIC = tuple(Study("harm", "p99 +60 %", n, 941 + k, 0, 200 // (k + 1)) for k, n in enumerate((400, 800)))
AT_MARGINS = tuple(Study("margin", name, 0, 931 + k, 10, 2000) for k, name in enumerate(GUARDRAILS))
STUDIES = (*NULLS, *HARMS, *AT_MARGINS, *MORE_TRAFFIC)


def runs_of(study: Study, runs: int, start: int = 0) -> Iterator[dict[str, Any]]:
    """Return what happened in each release."""
    for i in range(start, runs):
        yield study.run(i)


# -- the page ----------------------------------------------------------------------------------------------------------

RULES = ("threshold", "fixed", "ours")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the tables of docs/calibration_release.md from the lines of `--out`."""
    runs = {study.name: [row for row in rows if row["study"] == study.name] for study in STUDIES}
    out = ["| canary requests a look | guardrail | threshold | fixed test | ours |", "|---|---|---|---|---|"]
    for study in NULLS:
        traffic_was = f"{study.canary_requests}{', heavier tails' if 'heavier' in study.what else ''}"
        for name in (*GUARDRAILS, "any of them"):
            names = GUARDRAILS if name == "any of them" else (name,)
            cells = [_share(runs[study.name], *(f"{n}|{rule}" for n in names)) for rule in RULES]
            out.append(f"| {traffic_was} | {name} | {' | '.join(cells)} |")
    out += [
        "",
        "| regression | canary requests a look | runs | threshold | fixed test | ours | one look at the end |",
        "|---|---|---|---|---|---|---|",
    ]
    for study in sorted((*HARMS, *MORE_TRAFFIC), key=lambda s: (s.what, s.canary_requests)):
        name, mine = REGRESSIONS[study.what][0], runs[study.name]
        cells = [_when(mine, f"{name}|{rule}") for rule in RULES]
        limit = f"{100 * np.mean([r['limit'] is not None for r in mine]):.0f} %" if mine else ""
        out.append(f"| {study.what} | {study.canary_requests} | {len(mine)} | {' | '.join(cells)} | {limit} |")
    out += ["", "| harm exactly at the margin of | called safe at any look | called harm |", "|---|---|---|"]
    for study in AT_MARGINS:
        out.append(f"| {study.what} | {_share(runs[study.name], 'safe')} | {_share(runs[study.name], 'harm')} |")
    return "\n".join(out)


def _share(rows: Sequence[dict[str, Any]], *names: str) -> str:
    """Return in how many runs any of these happened, with a standard error, or the 95 % upper limit when none did."""
    hits, n = sum(any(row[name] is not None for name in names) for row in rows), max(len(rows), 1)
    share = hits / n
    digits, error = 1 if share >= 0.01 else 2, math.sqrt(share * (1 - share) / n)
    return f"{100 * share:.{digits}f} ± {100 * error:.{digits}f}" if hits else f"0 (< {300 / n:.2f})"


def _when(rows: Sequence[dict[str, Any]], name: str) -> str:
    """Return the share that is halted, the median look of the halt (the first is 1), and the canary's users by then."""
    stops = [math.inf if row[name] is None else row[name] + 1 for row in rows]
    users = [math.inf if row[f"{name}|users"] is None else row[f"{name}|users"] for row in rows]
    found = f"{100 * np.mean(np.isfinite(stops)):.0f} %" if stops else ""
    if not stops or not math.isfinite(np.median(stops)):
        return found
    return f"{found}, look {np.median(stops):.0f}, {np.median(users):.0f} users"


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, help="of each study, instead of its full size")
    parser.add_argument("--table", action="store_true", help="print what --out holds as Markdown, run nothing")
    args = parser.parse_args()
    known = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    if args.table:
        print(table(known))
        return
    for study in STUDIES:
        started, first = time.perf_counter(), sum(row["study"] == study.name for row in known)
        with args.out.open("a") as out:
            for what in runs_of(study, args.runs or study.full, first):
                out.write(json.dumps({"study": study.name, **what}) + "\n")
        print(f"{study.name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    _main()
