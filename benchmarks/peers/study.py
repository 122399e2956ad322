"""The same simulated experiments through every peer and through us: false alarms and stops, side by side."""

import math
import tempfile
from dataclasses import dataclass

import numpy as np

from benchmarks.options import Options, table
from benchmarks.peers import data as simulated
from benchmarks.peers import ours
from benchmarks.peers.environment import PEERS, Peer, PeerUnavailableError


@dataclass(frozen=True)
class Study:
    """One comparison: what is drawn, what each side does with it, and which peers can."""

    name: str
    title: str
    peers: tuple[str, ...]
    runs: int


STUDIES = (
    Study(
        "proportions",
        "A success rate, 30 against 40 %, 70 looks to 4 n, alpha 5 %, two-sided",
        ("gbstats", "tea-tasting", "ville"),
        400,
    ),
    Study("events", "Refusals of requests, 90/10, 200 looks to 4,000 requests, alpha 1 %", ("gbstats", "savvi"), 400),
    Study("sample_ratio", "Sample ratio, 30 daily looks, 2,000 units a day, alpha 1 %", ("gbstats", "savvi"), 1000),
)
HEADS = {
    "proportions": ("who", "method", "false alarms ± s.e.", "effect found", "mean stop, in n"),
    "events": (
        "who",
        "method",
        "false alarms ± s.e.",
        "0.5 → 5 % found",
        "median requests",
        "0 → 5 % found",
        "median requests",
    ),
    "sample_ratio": ("who", "method", "false alarms ± s.e.", "51/49 found", "median day"),
}


def run(options: Options) -> str:
    """Return the three tables, and the reason for every peer that is missing."""
    with tempfile.TemporaryDirectory(prefix="abtest-data-") as folder:
        sets = {s.name: getattr(simulated, s.name)(folder, 40 if options.quick else s.runs) for s in STUDIES}
        found = {s.name: {("abtest", k): v for k, v in getattr(ours, s.name)(sets[s.name]).items()} for s in STUDIES}
        missing = []
        for name in PEERS:
            try:
                with Peer(name, options.environments) as peer:
                    for study in STUDIES:
                        if name in study.peers:
                            data = sets[study.name]
                            answer = peer.ask(study.name, data=str(data.path), alpha=data.alpha, **data.arguments)
                            found[study.name] |= {(name, label): stops for label, stops in answer.items()}
            except PeerUnavailableError as reason:
                missing.append(f"* {name} is skipped: {reason}")
    parts = [f"### {s.title}\n\n{report(s, sets[s.name], found[s.name])}" for s in STUDIES]
    return "\n\n".join(parts + (["\n".join(missing)] if missing else []))


def report(study: Study, data: simulated.Data, found: dict) -> str:
    """Return the table of one study, peers first."""
    order = sorted(found, key=lambda key: key[0] == "abtest")
    return table(HEADS[study.name], [[*key, *_numbers(data, found[key])] for key in order])


def _numbers(data, stops):
    runs = len(stops["null"])
    rate = found_rate(stops["null"])
    cells = [f"{100 * rate:.1f} ± {100 * math.sqrt(max(rate * (1 - rate), 1 / runs) / runs):.1f} %"]
    for name in [n for n in stops if n not in ("null", "last")]:
        cells += [f"{100 * found_rate(stops[name]):.0f} %", _stop(data, stops[name], stops.get("last", -1))]
    return cells


def found_rate(stops) -> float:
    """Return the share of experiments that stopped."""
    return float(np.mean([s is not None for s in stops]))


def mean_stop(data, stops, last=-1) -> float:
    """Return the mean stop in the data's unit; an experiment without one counts with the last look."""
    looks = data.arrays["looks"]
    return float(np.mean([looks[last if s is None else s] for s in stops])) / data.unit


def _stop(data, stops, last):
    if data.unit > 1:
        return f"{mean_stop(data, stops, last):.2f}"
    median = np.median([math.inf if s is None else data.arrays["looks"][s] for s in stops])
    return f"{median:,.0f}" if np.isfinite(median) else "never"
