"""demo, init, simulate: the first five minutes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from abtest.cli.common import JsonOption, emit, progress_bar, say
from abtest.errors import UsageError

_DEMO = (("demo-refusals", "refusal-regression"), ("demo-healthy", "healthy"))
_DEMO_SEED = 1


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the demo; it must not exist or be an older demo.", metavar="DIR")
    ] = Path("demo"),
    users: Annotated[int, typer.Option("--users", min=500, help="Simulated users an experiment.")] = 20_000,
    as_json: JsonOption = False,
) -> int:
    """Show it all on simulated logs: a harmful canary halted, a healthy one promoted, the report of both.

    Example: abtest demo --out demo
    """
    from abtest.cli.reporting import entry_of
    from abtest.report import write_report
    from abtest.rollout.decide import decide
    from abtest.simulate import SCENARIOS, simulate, write
    from abtest.spec import Experiment
    from abtest.store.store import Store

    _fresh_folder(out)
    results: list[dict[str, Any]] = []
    with Store(out / "abtest.duckdb") as store, progress_bar(as_json) as bar:
        entries = []
        for name, scenario in _DEMO:
            if not as_json:
                say(f"{name}: {SCENARIOS[scenario].sentence}")
            folder = out / name
            simulation = simulate(replace(SCENARIOS[scenario], experiment=name), users=users, seed=_DEMO_SEED)
            write(simulation, folder)
            report = store.ingest(folder / "logs", progress=bar)
            experiment = Experiment.from_toml(folder / "experiment.toml")
            decision = decide(store, experiment)
            entries.append(entry_of(store, experiment))
            results.append({"experiment": name, "scenario": scenario, "records": report.records, "decision": decision.decision,
                            "exit_code": decision.exit_code, "summary": decision.summary})  # fmt: skip
            if not as_json:
                say(f"  {report.records:,} records; {decision.summary}")
                for action in decision.actions:
                    say(f"  {action.detail}")
        paths = write_report(
            entries, out / "report", generated_from={"store": "abtest.duckdb", "last_file": store.last_file()}
        )
    expected = [SCENARIOS[s].exit_code for _, s in _DEMO]
    if as_json:
        emit({"schema": "abtest.demo/1", "results": results, "report": str(paths["html"])})
    else:
        first = out / _DEMO[0][0]
        say()
        say(f"The report:      {paths['html']}")
        say(f"The flag file:   {first / 'flags.json'} (the candidate has weight 0 now)")
        say(f"Ask it yourself: abtest analyze {first / 'experiment.toml'} --db {out / 'abtest.duckdb'}")
    return 0 if [r["exit_code"] for r in results] == expected or users != 20_000 else 1


def simulate_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for logs/, experiment.toml and truth.json.", metavar="DIR")
    ],
    scenario: Annotated[
        str, typer.Option("--scenario", help="What is going on; an unknown name lists them.", metavar="NAME")
    ] = "healthy",
    users: Annotated[int, typer.Option("--users", min=1, help="Users.")] = 20_000,
    days: Annotated[float, typer.Option("--days", help="Length of the history.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same logs.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Write logs with a known truth: logs/, experiment.toml, truth.json.

    Example: abtest simulate --out sim --scenario refusal-regression --seed 7
    """
    from abtest.simulate import simulate, write

    simulation = simulate(scenario, users=users, days=days, seed=seed)
    files = write(simulation, out)
    logs = [str(f) for f in files if f.parent.name == "logs"]
    data = {
        "schema": "abtest.simulation/1", "scenario": simulation.scenario.name, "seed": seed, "users": users, "days": days,
        "calls": len(simulation.calls["ts"]), "scores": len(simulation.scores["ts"]),
        "logs": logs, "experiment": str(out / "experiment.toml"), "truth": str(out / "truth.json"),
    }  # fmt: skip
    if as_json:
        emit(data)
    else:
        say(f"{simulation.scenario.sentence}")
        say(f"{data['calls']:,} calls and {data['scores']:,} scores in {len(logs)} files under {out / 'logs'}")
        say(f"next: abtest ingest {out / 'logs'} && abtest decide {out / 'experiment.toml'}")
    return 0


def init(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder for experiment.toml and abtest.schema.json.", metavar="DIR", show_default=False),
    ],
    as_json: JsonOption = False,
) -> int:
    """Write a starter experiment file with comments, and the JSON Schema that lets editors complete it.

    Example: abtest init my-release
    """
    from importlib.resources import files

    from abtest.spec import json_schema

    target, schema = folder / "experiment.toml", folder / "abtest.schema.json"
    if target.exists():
        raise UsageError("is there already; it is left as it is", file=str(target), hint="choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.write_text(files("abtest").joinpath("starter.toml").read_text(encoding="utf-8"), encoding="utf-8")
        schema.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", file=str(folder)) from error
    if as_json:
        emit({"schema": "abtest.init/1", "experiment": str(target), "json_schema": str(schema)})
    else:
        say(f"written: {target} (edit the lines marked with <--) and {schema}")
        say(f"next: abtest ingest YOUR-LOGS && abtest decide {target}")
    return 0


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(demo)
    app.command()(init)
    app.command("simulate")(simulate_command)


def _fresh_folder(out: Path) -> None:
    """Make room: an older demo is replaced, anything else is left alone."""
    marker = out / ".abtest-demo"
    if out.exists() and not marker.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError("is there already and is no older demo", file=str(out), hint="give another folder with --out")
    if marker.exists():
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        marker.write_text("made by `abtest demo`; it replaces this folder when it runs again\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", file=str(out)) from error
