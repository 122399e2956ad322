"""metrics: what the catalogue holds, what a spec made of it, and the example of a price book."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abtest.cli.common import JsonOption, emit, load_spec, say

if TYPE_CHECKING:
    from abtest.spec import Experiment


def metrics(
    spec: Annotated[
        Path | None,
        typer.Option(
            "--spec", help="Show the metrics of this experiment file, and which keys are defaults.", metavar="SPEC"
        ),
    ] = None,
    price_book: Annotated[
        bool, typer.Option("--price-book", help="Print the example of a price book, to be copied and corrected.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """List the metrics that a spec can name with `use`: definition, defaults, and what must be logged.

    Example: abtest metrics --spec experiment.toml
    """
    if price_book:
        return _price_book(as_json)
    experiment = load_spec(spec) if spec else None
    if as_json:
        emit(_data(experiment))
    else:
        say(_resolved(experiment) if experiment else _catalogue())
    return 0


def _data(experiment: Experiment | None) -> dict[str, Any]:
    """Return `abtest.metrics/1`; `resolved` and `notes` speak of the spec, and are null and empty without one."""
    from abtest.metrics.base import kinds
    from abtest.metrics.catalog import entries

    return {
        "schema": "abtest.metrics/1",
        "metrics": [entry.to_dict() for entry in entries().values()],
        "kinds": sorted(kinds()),
        "experiment": experiment.id if experiment else None,
        "resolved": [m.model_dump(mode="json", exclude_none=True) for m in experiment.metrics] if experiment else None,
        "notes": experiment.default_notes if experiment else [],
    }


def _catalogue() -> str:
    from abtest.metrics.catalog import entries

    known = entries().values()
    width = max(len(e.name) for e in known)
    lines = [
        f'{len(known)} metrics; use = "NAME" takes one into a spec, guardrail = true takes the default that stands here'
    ]
    for e in known:
        what = f"{e.keys['kind']}, {e.keys['better']} is better, guardrail {e.margin_text()}, {e.action}"
        lines += [f"{e.name:{width}}  {e.definition}", f"{'':{width}}    {what}", f"{'':{width}}    logs: {e.logged}"]
    return "\n".join([*lines, "`abtest metrics --spec FILE` shows what a spec made of them"])


def _resolved(experiment: Experiment) -> str:
    from abtest.display import Table
    from abtest.metrics.catalog import margin_words

    rows: list[list[Any]] = []
    for m in experiment.metrics:
        guardrail = (
            f"{margin_words(m.guardrail.margin.model_dump(), m.better, m.unit)}, {m.guardrail.action}"
            if m.guardrail
            else None
        )
        rows.append([m.name, m.kind, m.better, m.role, guardrail, m.catalogue.entry if m.catalogue else None])
    columns = ("metric", "kind", "better", "role", "guardrail", "from the catalogue")
    table = Table(
        columns, rows, title=f"{experiment.id}, revision {experiment.revision}", notes=experiment.default_notes
    )
    return table.without_empty_columns().to_text()


def _price_book(as_json: bool) -> int:
    from abtest.metrics.prices import example_book, parse_book

    text = example_book()
    if as_json:
        emit({"schema": "abtest.price_book/1", "model": parse_book(text, "prices.example.toml")})
    else:
        say(text.rstrip("\n"))
    return 0


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(metrics)
