"""Calibrate before launch: the exact policy, replayed on the team's own logs, says how often it would be wrong (RELEASES §5).

Users of the baseline are put into pseudo-arms again and again, by nested hashes as the ramp would; time, clustering, delays and
looks stay as they were. Without harm every halt is a false one. With a known harm in the treatment the same replays say how soon
it is found, and how often the policy promotes all the same. Decisions are those of the product's own judge and rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from abtest.analysis.resample import Baseline, Randomised, Source, read_baseline
from abtest.analysis.resample_harm import Harm, harmed_run, plain_run
from abtest.analysis.resample_sums import Screened
from abtest.errors import SpecError, UsageError, did_you_mean
from abtest.rollout.calibrate_findings import Replayed, findings_of
from abtest.rollout.calibrate_results import Calibration, HarmStudy, Share, median
from abtest.rollout.calibrate_run import Looks, Path, Replay
from abtest.spec import Experiment
from abtest.store.store import Store

MULTIPLES = (1.0, 2.0, 4.0)
RUNS = 200
LEAST_HARMED = 20
HALF = 0.5
DAY = 24


def calibrate(
    store: Store,
    experiment: Experiment,
    *,
    runs: int = RUNS,
    seed: int = 0,
    inject: Mapping[str, Sequence[float]] | None = None,
    harmed_runs: int | None = None,
    every_hours: int = 1,
    widen: str = "policy",
    source: Source = "auto",
    randomised: Randomised | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Replay a policy on the logs of its baseline; nothing is written to the store.

    Args:
        store: An open store with the baseline's logs.
        experiment: The policy, with exactly one treatment.
        runs: Re-randomisations without harm; 200 tell 1 % from 5 %.
        seed: Seed; the same arguments on the same logs give the same answer.
        inject: Metric -> harms in margins; default: 1, 2 and 4 margins on every guardrail. An empty mapping injects none.
        harmed_runs: Re-randomisations a harm; default: a quarter of `runs`, at least 20.
        every_hours: Hours between looks.
        widen: "policy": a promotion begins the next stage; "calendar": stages follow each other by their `min_hours`, or in
            equal parts of the log where those do not fit, whatever the policy says.
        source: What the baseline is: "control", "before" (the experiment), or "auto".
        randomised: What is put into arms together; default: users. A spec whose `unit` is finer than what is really
            randomised is calibrated as it will run, and fails.
        progress: Called with the runs that are done and all of them.

    Returns:
        Errors with exact intervals, detection delays, findings.

    Raises:
        SpecError: several treatments, guardrails on segments, a unit coarser than what is randomised.
        UsageError: numbers that make no sense, an unknown metric.
        NoDataError: no logs to replay on.
    """
    started = time.perf_counter()
    _check(experiment, runs, every_hours, widen)
    chosen = _chosen(experiment, inject)
    harmed_runs = min(max(runs // 4, LEAST_HARMED), runs) if harmed_runs is None else harmed_runs
    multiples = sorted({m for _, m in chosen})
    baseline = read_baseline(store, experiment, source=source, randomised=randomised, multiples=multiples)
    looks = _looks(experiment, baseline, every_hours, widen)
    total, done = runs + harmed_runs * len(chosen), 0
    plain: list[Path] = []
    harmed: dict[tuple[int, float], list[Path | None]] = {key: [] for key in chosen}
    for run in range(runs):
        arms = plain_run(baseline, seed, run)
        known: dict[tuple[tuple[int, ...], int], Screened] = {}
        plain.append(Replay(arms, looks, None, known).path())
        for j, multiple in chosen if run < harmed_runs else ():
            worse = harmed_run(arms, Harm(j, multiple), seed, run)
            harmed[j, multiple].append(Replay(worse, looks, j, known).path() if worse else None)
        done += 1 + (len(chosen) if run < harmed_runs else 0)
        if progress:
            progress(done, total)
    studies = tuple(_study(experiment, j, m, paths) for (j, m), paths in harmed.items())
    halts = [p for p in plain if p.ended == "halt" and p.reason == "harm"]
    false_halts = Share.of(len(halts), runs)
    stages = _stages(experiment, looks, plain)
    replayed = Replayed(baseline, looks, false_halts, studies, stages, runs)
    return Calibration(
        experiment=experiment.id, revision=experiment.revision, policy_sha256=experiment.policy_sha256(baseline.frozen),
        baseline=_described(baseline), runs=runs, harmed_runs=harmed_runs, seed=seed, every_hours=every_hours, widen=widen,
        nominal=float(experiment.budget.halt), alpha=float(experiment.alpha), false_halts=false_halts,
        timeouts=Share.of(sum(p.ended == "halt" and p.reason == "timeout" for p in plain), runs),
        halted_by=_counted(p.metric or "" for p in halts), promoted=Share.of(sum(bool(p.promoted) for p in plain), runs),
        ended=_counted(p.ended for p in plain), stages=stages, harms=studies, findings=findings_of(replayed),
        seconds=time.perf_counter() - started,
    )  # fmt: skip


def _check(experiment: Experiment, runs: int, every_hours: int, widen: str) -> None:
    if len(experiment.treatments) != 1:
        raise SpecError(
            f"calibrate takes exactly one treatment, this spec has {len(experiment.treatments)}", key="treatments",
            hint="a copy of the spec for each of them",
        )  # fmt: skip
    if any(m.guardrail.tests > 1 for m in experiment.guardrails if m.guardrail):
        raise SpecError(
            "guardrails on segments are not replayed", key="metrics.guardrail.segments",
            hint="calibrate a copy of the spec without them; its halt budget is then split over fewer tests",
        )  # fmt: skip
    if not 1 <= runs <= 1_000_000:
        raise UsageError(f"{runs} runs say nothing", key="--runs", hint="200 tell 1 % from 5 %, 1000 are better")
    if not 1 <= every_hours <= 168:
        raise UsageError(f"a look every {every_hours} hours", key="--every", hint="whole hours, from 1 to 168")
    if widen not in ("policy", "calendar"):
        raise UsageError(f"{widen!r} widens no ramp", key="--widen", hint="policy or calendar")


def _chosen(experiment: Experiment, inject: Mapping[str, Sequence[float]] | None) -> list[tuple[int, float]]:
    """Return the harms to inject: (metric number, multiple)."""
    names = {m.name: j for j, m in enumerate(experiment.metrics) if m.guardrail}
    wanted = dict.fromkeys(names, MULTIPLES) if inject is None else inject
    for name, multiples in wanted.items():
        if name not in names:
            raise UsageError(f"no guardrail {name!r}", key="--inject", hint=did_you_mean(name, names))
        if any(not 0 < m <= 1000 for m in multiples):
            raise UsageError(f"{name}: a harm is a number of margins above 0", key="--inject", hint=f"{name}=x2")
    return [(names[name], float(m)) for name, multiples in wanted.items() for m in multiples]


def _looks(experiment: Experiment, baseline: Baseline, every_hours: int, widen: str) -> Looks:
    live = [s for s in experiment.ramp if s.share is not None]
    shares = tuple(float(s.share) for s in live if s.share is not None) or (HALF,)
    if widen == "policy":
        return Looks(every_hours, shares)
    lengths = [int(s.min_hours) or DAY for s in live[:-1]]
    if sum(lengths) >= baseline.hours:
        lengths = [baseline.hours // len(shares)] * (len(shares) - 1)
    starts = tuple(sum(lengths[:k]) for k in range(len(shares)))
    return Looks(every_hours, shares, starts)


def _study(experiment: Experiment, j: int, multiple: float, paths: Sequence[Path | None]) -> HarmStudy:
    spec = experiment.metrics[j]
    assert spec.guardrail is not None
    made = [p for p in paths if p is not None]
    hit = [p for p in made if p.detected is not None or (p.ended == "halt" and p.reason == "harm")]
    hours = tuple(sorted(p.hours for p in hit))
    return HarmStudy(
        metric=spec.name, action=spec.guardrail.action, multiple=multiple, margin=spec.guardrail.margin.value,
        margin_kind=spec.guardrail.margin.kind, detected=Share.of(len(hit), len(made)),
        promoted=Share.of(sum(bool(p.promoted) for p in made), len(made)), median_hours=median(hours, len(made)),
        median_units=median([float(p.exposed) for p in hit], len(made)), hours=hours, status="ok" if made else "unsupported",
    )  # fmt: skip


def _stages(experiment: Experiment, looks: Looks, paths: Sequence[Path]) -> list[dict[str, object]]:
    """Return the stages, and when runs without harm came there."""
    live = [s for s in experiment.ramp if s.share is not None]
    labels = [s.label for s in live] or ["A/B"]
    out: list[dict[str, object]] = []
    for k, (label, share) in enumerate(zip(labels, looks.shares, strict=True)):
        came = [p for p in paths if p.stage >= k]
        when = [0.0] * len(came) if k == 0 else [p.promoted[k - 1] for p in came if len(p.promoted) >= k]
        if looks.calendar is not None:
            when = [float(looks.calendar[k])] * len(came)
        out.append({"label": label, "share": share, "entered": len(came), "median_hours": median(when, len(paths))})
    return out


def _counted(names: object) -> dict[str, int]:
    out: dict[str, int] = {}
    for name in names:  # type: ignore[attr-defined]
        out[name] = out.get(name, 0) + 1
    return dict(sorted(out.items(), key=lambda item: (-item[1], item[0])))


def _described(baseline: Baseline) -> dict[str, object]:
    words = {"control": "the control arm's own calls", "before": "all calls from before the experiment"}
    return {
        "source": baseline.source, "source_words": words[baseline.source], "hours": baseline.hours,
        "calls": int(baseline.calls.columns["calls"].sum()), "units": baseline.units, "unit": baseline.experiment.unit,
        "randomised": baseline.randomised, "randomised_units": baseline.clusters,
    }  # fmt: skip
