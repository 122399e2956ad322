"""`abtest`: builds the command tree, runs it, turns errors into one line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from abtest.cli import (
    data,
    decisions,
    doctor,
    governance,
    indexes,
    metrics,
    planning,
    quarantine,
    reporting,
    shadow,
    start,
    tradeoff,
    upkeep,
    verify,
    versions,
    watch,
)
from abtest.cli.common import emit, fail, note
from abtest.errors import AbtestError, UsageError, nearest

HELP = """Is this LLM release safe, is it better, and stop it when it is not, from the logs you have.

Start with `abtest demo`. Exit codes of decide: 0 promote or ship, 10 hold, 20 halt, 30 not trustworthy, 40 no data,
2 usage or spec error."""


def build() -> typer.Typer:
    """Return the command tree: one module a group."""
    app = typer.Typer(
        name="abtest", help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )  # fmt: skip

    @app.callback()
    def root(  # pyright: ignore[reportUnusedFunction]
        version: bool = typer.Option(
            False, "--version", help="Print the version and exit.", is_eager=True, callback=_version
        ),
    ) -> None:
        del version

    for group in (
        start,
        data,
        planning,
        quarantine,
        decisions,
        reporting,
        shadow,
        metrics,
        governance,
        indexes,
        tradeoff,
        upkeep,
        doctor,
        verify,
        versions,
        watch,
    ):
        group.add(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"abtest {version('abtest')}\n")
        raise typer.Exit


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = "--json" in argv
    try:
        result = build()(args=list(argv), standalone_mode=False)
    except AbtestError as error:
        return fail(error, as_json=as_json)
    except typer.TyperException as error:
        return _usage(error, as_json=as_json)
    except typer.Abort:
        note("abtest: interrupted")
        return 130
    return result if isinstance(result, int) else 0


def _usage(error: typer.TyperException, *, as_json: bool) -> int:
    """Tell a wrong call in one line, with the nearest command or option."""
    # Typer carries its own copy of click; what an error knows is read without naming its private classes.
    message: str = getattr(error, "format_message", error.__str__)()
    command: Any = getattr(getattr(error, "ctx", None), "command", None)
    hint = None
    if type(error).__name__ == "NoArgsIsHelpError":
        note(message)
        return 2
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and option and command is not None:
        best = nearest(option, [name for p in command.params for name in p.opts])
        message, hint = f"no option {option!r}", f"did you mean {best!r}?" if best else None
    elif message.startswith("No such command") and command is not None and hasattr(command, "commands"):
        name = message.split("'")[1]
        best = nearest(name, list(command.commands))
        message, hint = f"no command {name!r}", f"did you mean {best!r}?" if best else "`abtest --help` lists them"
    elif command is not None:
        hint = f"see `{error.ctx.command_path} --help`"  # type: ignore[attr-defined]
    usage = UsageError(message.rstrip("."), hint=hint)
    if as_json:
        emit(usage.to_dict())
    else:
        note(f"abtest: {usage}")
    return usage.exit_code


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
