"""shadow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abtest.cli.common import (
    DEFAULT_DB,
    AsOfOption,
    DbOption,
    ExitZeroOption,
    JsonOption,
    emit,
    existing_store,
    load_spec,
    moment,
    say,
)

if TYPE_CHECKING:
    from abtest.rollout.shadow_results import ShadowAnalysis

_FIELD_WORDS = {
    "refused": "refused or not", "format_ok": "format valid or not", "is_error": "error or not", "finish_reason": "finish reason",
    "response": "the same text",
}  # fmt: skip


def shadow(
    spec: Annotated[Path, typer.Argument(help="Experiment file (TOML).", metavar="SPEC", show_default=False)],
    db: DbOption = DEFAULT_DB,
    as_of: AsOfOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be decided; write nothing.")] = False,
    as_json: JsonOption = False,
    exit_zero: ExitZeroOption = False,
) -> int:
    """Compare both arms' answers to the same requests (nobody saw the candidate's), and decide about the canary.

    Exit codes as of decide: 0 promote, 10 hold, 20 halt, 30 not trustworthy, 40 no pairs.

    Example: abtest shadow experiment.toml
    """
    from abtest.rollout.shadow import shadow as run

    experiment, cut = load_spec(spec), moment(as_of)
    with existing_store(db) as store:
        answer = run(store, experiment, cut, dry_run=dry_run)
    if as_json:
        emit(answer.to_dict())
    else:
        _print(answer)
    return 0 if exit_zero else answer.exit_code


def add(app: typer.Typer) -> None:
    """Add this group's command."""
    app.command()(shadow)


def _print(answer: ShadowAnalysis) -> None:
    say(answer.summary)
    for finding in answer.findings:
        if finding.message not in answer.summary:
            say(f"  {finding.severity:8s} {finding.message}")
    say(f"  decision {answer.decision_id[:16]}{' (dry run, nothing was written)' if answer.dry_run else ''}")
    if not answer.pairs:
        return
    say()
    say(answer.table(listed=True).to_text())
    others = answer.table(listed=False)
    if others.rows:
        say()
        say(f"Also logged:\n{others.to_text().partition(chr(10))[2]}")
    for line in (*_traffic(answer.sampled), *_agreement(answer), *_mcnemar(answer), *_people(answer)):
        say(line)
    for line in answer.notes:
        say(f"- {line}")


def _traffic(sampled: Any) -> list[str]:
    if sampled["share"] is None:
        return [""]
    how = {
        "session": "whole sessions",
        "request": "single requests",
        None: "cannot be told apart: no session has two requests",
    }
    share = f"{sampled['sessions_mirrored']:,} of {sampled['sessions']:,} sessions ({sampled['share'] * 100:.3g} %)"
    return ["", f"Mirrored: {share}; by {how[sampled['by']]}" if sampled["by"] else f"Mirrored: {share}"]


def _agreement(answer: ShadowAnalysis) -> list[str]:
    known = [
        f"{words} {row['rate'] * 100:.3g} %"
        for name, words in _FIELD_WORDS.items()
        if (row := answer.agreement[name])["rate"] is not None
    ]
    similar = answer.agreement["embedding_similarity"]
    if similar:
        known.append(f"embedding similarity {similar['mean']:.3g} on average")
    return [f"Both say the same: {', '.join(known)}"] if known else []


def _mcnemar(answer: ShadowAnalysis) -> list[str]:
    from abtest.display import format_pvalue

    rows = [r for r in answer.mcnemar if r["pvalue"] is not None]
    return [
        f"McNemar, {r['metric']}: {r['only_control']:,} requests only in {answer.control}, {r['only_treatment']:,} only in"
        f" {answer.treatment}, p {_p(format_pvalue(r['pvalue']))} ({r['note']})"
        for r in rows
    ]


def _p(text: str) -> str:
    return text if text.startswith("<") else f"= {text}"


def _people(answer: ShadowAnalysis) -> list[str]:
    lines: list[str] = []
    for name, found in answer.ppi.items():
        d = found["difference"]
        if d["lower"] is None:
            lines.append(f"People on {name}: {found['labelled_units']} units labelled, too few")
            continue
        lines.append(
            f"People on {name} (PPI++, {found['labelled_units']} units labelled): {d['value']:+.3g} [{d['lower']:+.3g}, {d['upper']:+.3g}]"
        )
    return lines
