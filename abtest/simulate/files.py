"""Writes a simulation: logs, experiment file, flag file and truth. The same arguments give the same bytes."""

from __future__ import annotations

import gzip as gzip_module
import json
from pathlib import Path
from typing import Any

import numpy as np

from abtest.errors import UsageError
from abtest.simulate.draw import Simulation, iso
from abtest.simulate.encode import ARMS, MODELS, PROMPTS, blocks
from abtest.simulate.model import METRICS, Metric
from abtest.simulate.scenarios import RAMP

_DAY = 86_400_000_000
FLAG_KEY = "support-model"


def write(simulation: Simulation, out: Path, *, files_per_day: int = 1, gzip: bool = False) -> list[Path]:
    """Write `out`/logs/YYYY-MM-DD.jsonl, experiment.toml, truth.json and, where the scenario has one, flags.json.

    Args:
        simulation: What `simulate` returned.
        out: Folder, made when it is missing. Files of an earlier run with the same days are replaced.
        files_per_day: Log files a day (equal parts of the day, UTC); with more than one, the names end in -00, -01, ..
            A part of the day without rows has no file.
        gzip: Compress the logs (.jsonl.gz).

    Returns:
        All files written: the logs in order of time, then the others.

    Raises:
        UsageError: `files_per_day` is not 1 to 1440, or the folder holds logs that are not of this simulation.
    """
    if not 1 <= files_per_day <= 1440:
        raise UsageError(f"{files_per_day} files a day", key="files_per_day", hint="use 1 to 1440")
    slots = _slots(simulation, files_per_day, ".jsonl.gz" if gzip else ".jsonl")
    logs = out / "logs"
    foreign = sorted(p.name for p in logs.glob("*.jsonl*") if p.name not in slots)
    if foreign:
        raise UsageError(f"{logs} holds other logs: {', '.join(foreign[:3])}", key="out", hint="choose an empty folder")
    logs.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, (start, end) in slots.items():
        _write_log(simulation, logs / name, start, end, gzip)
        written.append(logs / name)
    texts = {"experiment.toml": experiment_toml(simulation), "truth.json": _json(dict(simulation.truth))}
    if simulation.scenario.flag:
        texts["flags.json"] = _json(flagd(simulation))
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
        written.append(out / name)
    return written


def _slots(sim: Simulation, per_day: int, suffix: str) -> dict[str, tuple[int, int]]:
    """Return file name -> [start, end) in epoch microseconds, for every part of a day that has rows."""
    ts = np.concatenate([sim.calls["ts"], sim.scores["ts"]])
    part = ts % _DAY * per_day // _DAY
    slots: dict[str, tuple[int, int]] = {}
    for slot in np.unique(ts // _DAY * per_day + part).tolist():
        day, index = divmod(slot, per_day)
        ending = f"-{index:0{max(2, len(str(per_day - 1)))}d}" if per_day > 1 else ""
        # Rounded up, so that a row's part of the day by integer division and by these bounds is the same.
        bounds = tuple(day * _DAY + -(-i * _DAY // per_day) for i in (index, index + 1))
        slots[f"{np.datetime64(day, 'D')}{ending}{suffix}"] = (bounds[0], bounds[1])
    return slots


def _write_log(sim: Simulation, path: Path, start: int, end: int, gzip: bool) -> None:
    with path.open("wb") as raw:
        if not gzip:
            raw.writelines(blocks(sim, start, end))
            return
        # No name and no time in the header: the same logs give the same bytes.
        with gzip_module.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
            for block in blocks(sim, start, end):
                packed.write(block)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def flagd(sim: Simulation) -> dict[str, Any]:
    """Return a flagd flag file that sends the current share of the users to the candidate."""
    share = round(100 * sim.clock.shares[-1])
    baseline, candidate = ARMS
    fractional = [
        {"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]},
        [candidate, share],
        [baseline, 100 - share],
    ]
    flag = {
        "state": "ENABLED",
        "variants": {baseline: MODELS[0], candidate: MODELS[1]},
        "defaultVariant": baseline,
        "targeting": {"fractional": fractional},
        "metadata": {"experiment": sim.scenario.experiment},
    }
    return {"$schema": "https://flagd.dev/schema/v0/flags.json", "flags": {FLAG_KEY: flag}}


def _guardrail(metric: Metric) -> str:
    return (
        f'better = "{metric.better}"\n'
        f'guardrail = {{ margin = {{ {metric.margin_kind} = {metric.margin} }}, action = "{metric.action}" }}'
    )


_FIELDS = {
    "refusal_rate": 'kind = "proportion"\nevent = "refused"',
    "error_rate": 'kind = "proportion"\nevent = "is_error"',
    "latency_p99": 'kind = "quantile"\nvalue = "latency_ms"\nq = 0.99',
    "cost_per_request": 'kind = "mean"\nvalue = "cost_usd"',
    "format_validity": 'kind = "proportion"\nevent = "format_ok"',
    "helpfulness": 'kind = "mean"\nscore = "helpfulness"\nbounds = [0, 1]',
}
_SUCCESS = 'better = "higher"\nsuccess = { mde = { absolute = 0.02 } }'

_HEAD = f"""\
revision = 1
unit = "user"
control = "{ARMS[0]}"
treatments = ["{ARMS[1]}"]
alpha = 0.05

[budget]
halt = 0.01
sample_ratio = 0.01

[population]
where = "surface = 'support'"
per_request = "last"

[arms.{ARMS[0]}]
model = "{MODELS[0]}"
prompt_version = "{PROMPTS[0]}"
[arms.{ARMS[1]}]
model = "{MODELS[1]}"
prompt_version = "{PROMPTS[1]}"
"""


def _ramp() -> str:
    rows = ['[[ramp]]\nstage = "shadow"']
    rows += [f'[[ramp]]\nstage = "canary"\nshare = {share}' for share in RAMP[:-1]]
    rows[1] += "\nmin_hours = 24\nmin_units = 100"
    rows.append(f'[[ramp]]\nstage = "ab"\nshare = {RAMP[-1]}\nmax_days = 21')
    return "\n".join(rows) + "\n"


def experiment_toml(sim: Simulation) -> str:
    """Return the experiment file: the whole ramp planned, and the allocation history of the stages that happened."""
    metrics = "\n".join(
        f'[[metrics]]\nname = "{name}"\n{_FIELDS[name]}\n{_SUCCESS if metric.margin is None else _guardrail(metric)}\n'
        for name, metric in METRICS.items()
    )
    history = "".join(
        f"[[allocation]]\nat = {iso(at)}\nshare = {share}\n"
        for at, share in zip(sim.clock.edges, sim.clock.shares, strict=True)
    )
    parts = [
        f'id = "{sim.scenario.experiment}"\n' + _HEAD,
        metrics,
        '[sequential]\nmethod = "anytime"\n',
        _ramp(),
        '[traffic]\ncontrol = "external"\n' + history,
    ]
    if sim.scenario.flag:
        parts.append(f'[halt]\nflag = {{ file = "flags.json", key = "{FLAG_KEY}", format = "flagd" }}\n')
    return "\n".join(parts)
