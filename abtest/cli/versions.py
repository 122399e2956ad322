"""versions: which prompt, model and configuration runs right now, or ran then; the registry; the timeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abtest.cli.common import DEFAULT_DB, DbOption, JsonOption, emit, existing_store, moment, open_store, say

if TYPE_CHECKING:
    from abtest.lineage.registry import Registered
    from abtest.store.store import Store

LastOption = Annotated[str, typer.Option("--last", help="How long to look back, e.g. 15m, 1h, 7d.", metavar="TIME")]
AtOption = Annotated[
    str | None,
    typer.Option("--at", help="As it was at this moment, e.g. 2026-11-20T02:00:00Z. Default: the newest call.", metavar="TS"),
]  # fmt: skip
SurfaceOption = Annotated[
    str | None, typer.Option("--surface", help="Only this feature or route.", metavar="NAME", show_default=False)
]
ManifestArgument = Annotated[
    str,
    typer.Argument(
        help="The beginning of an id, a name, a prompt version or a label.", metavar="MANIFEST", show_default=False
    ),
]

app = typer.Typer(
    invoke_without_command=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback()
def versions(
    ctx: typer.Context,
    last: LastOption = "1h",
    at: AtOption = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", help="Compare two: ids, prompt versions or labels.", metavar="A B", show_default=False),
    ] = None,
    surface: SurfaceOption = None,
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Show what is running right now: prompt, model and configuration of every surface, since when, and what changed.

    Example: abtest versions --at 2026-11-20T02:00:00Z --last 30m
    """
    if ctx.invoked_subcommand is not None:
        return 0
    result: Any
    with looking(db) as store:
        if diff is not None:
            from abtest.lineage.diff import diff as compare

            result = compare(store, *diff, at_us=moment(at), surface=surface)
        else:
            from abtest.lineage.versions import versions as run

            result = run(store, last=last, at=at, surface=surface)
    _print(result, as_json=as_json)
    return 0 if diff is not None or result.surfaces else 40


@app.command()
def register(
    files: Annotated[list[Path], typer.Argument(help="Manifests, TOML or JSON.", metavar="FILE", show_default=False)],
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Register what may run; the same name or prompt version with other content is refused.

    Example: abtest versions register manifests.toml
    """
    from abtest.lineage.registry import register as run

    with open_store(db) as store:
        found = run(store, *files)
    if as_json:
        emit({"schema": "abtest.versions_register/1", "manifests": [_registered(r) for r in found]})
    else:
        for r in found:
            say(f"registered {r.manifest.short}  {r.manifest.words}{f'  ({r.name})' if r.name else ''}")
    return 0


@app.command()
def label(
    name: Annotated[str, typer.Argument(help="For example production.", metavar="NAME", show_default=False)],
    manifest: ManifestArgument,
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Put a label on a registered manifest, or move it there; moving it back is the rollback. The ledger knows every move.

    Example: abtest versions label production v12
    """
    from abtest.lineage.registry import label as run
    from abtest.lineage.registry import registry

    with existing_store(db) as store:
        move = run(store, name, manifest)
        known = registry(store).by_id
    if as_json:
        emit({"schema": "abtest.versions_label/1", **move.to_dict()})
    else:
        origin = f", it was on {known[move.before].manifest.words}" if move.before else ""
        say(f"{name} is on {known[move.manifest_id].manifest.words} ({move.manifest_id[:12]}){origin}")
    return 0


@app.command()
def retire(manifest: ManifestArgument, db: DbOption = DEFAULT_DB, as_json: JsonOption = False) -> int:
    """Retire a registered manifest: calls of it are a finding from now on. Labelling it again takes that back.

    Example: abtest versions retire v11
    """
    from abtest.lineage.registry import retire as run

    with existing_store(db) as store:
        found = run(store, manifest)
    if as_json:
        emit({"schema": "abtest.versions_retire/1", **_registered(found)})
    else:
        say(f"retired {found.manifest.short}  {found.manifest.words}")
    return 0


@app.command()
def timeline(
    since: Annotated[
        str, typer.Option("--since", help="How far to look back (7d), or a moment.", metavar="TIME")
    ] = "14d",
    at: AtOption = None,
    surface: SurfaceOption = None,
    days: Annotated[
        float, typer.Option("--days", min=1, help="Days between two false alarms, on average or longer.")
    ] = 365.0,
    picture: Annotated[
        Path | None,
        typer.Option("--out", help="Write the picture to this file (SVG).", metavar="FILE", show_default=False),
    ] = None,
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Show changes of versions beside changes of metrics: what moved after which version came.

    Example: abtest versions timeline --surface support --since 7d
    """
    from abtest.lineage.timeline import timeline as run

    with looking(db) as store:
        result = run(store, since=since, at=at, surface=surface, days=days)
    _print(result, as_json=as_json)
    if picture is not None:
        from abtest.charts import to_svg

        picture.write_text(to_svg(result.plot()), encoding="utf-8")
    return 0 if result.as_of is not None else 40


def add(parent: typer.Typer) -> None:
    """Add this group's commands."""
    parent.add_typer(app, name="versions")


def looking(db: Path) -> Store:
    """Open a store to look at: for writing where that is allowed, so that what was counted stays; else for reading."""
    import os

    if db.exists() and not os.access(db, os.W_OK):
        return open_store(db, read_only=True)
    return existing_store(db)


def _print(result: Any, *, as_json: bool) -> None:
    if as_json:
        emit(result.to_dict())
    else:
        say(repr(result))


def _registered(r: Registered) -> dict[str, Any]:
    return {
        "manifest_id": r.manifest.manifest_id, "short_id": r.manifest.short, "manifest": dict(r.manifest.fields),
        "name": r.name, "surface": r.surface, "has_text": r.prompt_text is not None,
    }  # fmt: skip
