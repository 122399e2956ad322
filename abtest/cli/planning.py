"""plan, calibrate: before a release starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from abtest.cli.common import (
    DEFAULT_DB,
    DbOption,
    JsonOption,
    SpecArgument,
    emit,
    existing_store,
    load_spec,
    progress_bar,
    say,
)
from abtest.errors import UsageError

SourceOption = Annotated[
    Literal["auto", "control", "before"],
    typer.Option("--baseline", help="What is replayed: the control arm's calls, or all calls before the experiment."),
]
RandomisedOption = Annotated[
    Literal["user", "session", "request"] | None,
    typer.Option("--randomised", help="What is really put into arms together. Default: users."),
]


def calibrate(
    spec: SpecArgument,
    db: DbOption = DEFAULT_DB,
    runs: Annotated[int, typer.Option("--runs", help="Replays without harm; 200 tell 1 % from 5 %.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same answer.", min=0)] = 0,
    inject: Annotated[
        list[str] | None,
        typer.Option(
            "--inject",
            help="A harm, in margins: refusal_rate=x2. Repeat it; 'none' injects nothing. Default: 1, 2, 4 on each.",
        ),
    ] = None,
    every: Annotated[str, typer.Option("--every", help="How often somebody looks: 1h, 6h, 1d.")] = "1h",
    widen: Annotated[
        Literal["policy", "calendar"],
        typer.Option("--widen", help="What starts the next stage: a promotion, or the calendar."),
    ] = "policy",
    baseline: SourceOption = "auto",
    randomised: RandomisedOption = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write the pictures into this folder, as SVG.", metavar="DIR")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Replay the policy on the baseline's logs: how often would it halt by mistake, how soon does it find harm?

    Users are put into pseudo-arms again and again; the judge, the rules, the looks are the real ones. Nothing is written.

    Example: abtest calibrate experiment.toml --runs 200 --inject refusal_rate=x2
    """
    from abtest.rollout.calibrate import calibrate as run

    experiment = load_spec(spec)
    harms, hours = injected(inject), hours_of(every)
    with existing_store(db) as store, progress_bar(as_json) as bar:
        found = run(
            store, experiment, runs=runs, seed=seed, inject=harms, every_hours=hours, widen=widen, source=baseline, randomised=randomised,
            progress=None if bar is None else lambda done, total: bar("replays", done, total),
        )  # fmt: skip
    if picture is not None:
        _pictures(picture, found)
    if as_json:
        emit(found.to_dict())
    else:
        say(found.to_text())
        say(f"\n{found.seconds:.0f} seconds, seed {found.seed}")
    return 0


def plan(
    spec: SpecArgument,
    db: DbOption = DEFAULT_DB,
    power: Annotated[
        float, typer.Option("--power", help="Chance that the release is decided by the planned day.")
    ] = 0.8,
    units_per_day: Annotated[
        float | None, typer.Option("--units-per-day", help="Without logs: new units a day.", metavar="N")
    ] = None,
    calls_per_unit: Annotated[
        float, typer.Option("--calls-per-unit", help="Without logs: calls of a unit.", metavar="N")
    ] = 1.0,
    correlation: Annotated[
        float | None,
        typer.Option("--correlation", help="Without logs: how alike the calls of a unit are, 0 to 1.", metavar="R"),
    ] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            "--assume", help="Without logs: METRIC.baseline=0.02, METRIC.variance=0.05, METRIC.beyond=0.004. Repeat it."
        ),
    ] = None,
    baseline: SourceOption = "auto",
    randomised: RandomisedOption = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write the picture to this file, as SVG.", metavar="FILE")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Say how many days each stage needs, from the logs' variance, clustering and traffic; exit 10 when a margin cannot be resolved.

    Example: abtest plan experiment.toml
    """
    from abtest.rollout.plan import plan as run
    from abtest.rollout.plan_assume import Assumptions

    experiment = load_spec(spec)
    if units_per_day is None and not assume and correlation is None and calls_per_unit == 1.0 and db.exists():
        with existing_store(db) as store:
            found = run(store, experiment, power=power, source=baseline, randomised=randomised)
    else:
        given = Assumptions(units_per_day, calls_per_unit, correlation, assumed(assume or ()))
        found = run(None, experiment, power=power, assume=given)
    if picture is not None:
        _svg(picture, found.plot())
    if as_json:
        emit(found.to_dict())
    else:
        say(found.to_text())
    return found.exit_code


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (plan, calibrate):
        app.command()(command)


# -- arguments ---------------------------------------------------------------------------------------------------


def injected(texts: Sequence[str] | None) -> dict[str, list[float]] | None:
    """Read `--inject metric=x2`; None: the default harms."""
    if not texts:
        return None
    if list(texts) == ["none"]:
        return {}
    out: dict[str, list[float]] = {}
    for text in texts:
        name, _, multiple = text.partition("=")
        try:
            number = float(multiple.removeprefix("x"))
        except ValueError:
            raise UsageError(
                f"{text!r} is no harm", key="--inject", hint="write refusal_rate=x2 (two margins), or none"
            ) from None
        out.setdefault(name, []).append(number)
    return out


def hours_of(text: str) -> int:
    """Read `--every` in whole hours."""
    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and len(number) < 5 and unit in ("h", "d"):
        return int(number) * (24 if unit == "d" else 1)
    raise UsageError(f"{text!r} is no time between looks", key="--every", hint="whole hours or days: 1h, 6h, 1d")


def assumed(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Read `--assume metric.baseline=0.02`."""
    from abtest.rollout.plan_assume import NAMES

    out: dict[str, dict[str, float]] = {}
    for text in texts:
        left, _, right = text.partition("=")
        metric, _, name = left.rpartition(".")
        try:
            value = float(right)
        except ValueError:
            value = None
        if not metric or name not in NAMES or value is None:
            hint = f"METRIC.NAME=NUMBER, NAME one of {', '.join(NAMES)}"
            raise UsageError(f"{text!r} says nothing that could be assumed", key="--assume", hint=hint)
        out.setdefault(metric, {})[name] = value
    return out


def _pictures(folder: Path, found: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("halts", "detection", "promotes"):
        if name == "halts" or any(h.status == "ok" for h in found.harms):
            _svg(folder / f"{name}.svg", found.plot(name))


def _svg(file: Path, chart: Any) -> None:
    from abtest.charts import to_svg

    file.write_text(to_svg(chart), encoding="utf-8")
