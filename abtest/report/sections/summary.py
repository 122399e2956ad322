"""The opening: what was decided and what to do, in sentences, and the few facts that a reader needs first."""

from __future__ import annotations

from collections.abc import Sequence

from abtest.charts import harm_proven_at
from abtest.display import NOTHING, format_share, format_time, shorten
from abtest.report.context import Context
from abtest.report.headline import why
from abtest.report.model import Block, Facts, Paragraph, Section
from abtest.report.steps import what_to_do


def build(context: Context) -> Sequence[Block]:
    """Return the sentence, the next step and the facts."""
    facts = [("What to do", what_to_do(context))]
    since = context.since()
    if since is not None:
        facts.append(("Since", format_time(since)))
    proofs = [(harm_proven_at(m), m) for m in context.guardrails if m["verdict"] == "harm"]
    facts += [("Harm first proven", f"{format_time(at)} ({context.label(m)})") for at, m in proofs if at]
    sure = _how_sure(context)
    if sure:
        facts.append(("How sure", f"{sure[0].upper()}{sure[1:]}."))
    facts += [("Stage", _stage(context)), ("Compared", _arms(context))]
    facts.append(("Evidence until", format_time(context.analysis["as_of"])))
    return [Paragraph(why(context), "lead"), Facts(facts)]


def _stage(context: Context) -> str:
    stage = context.stage
    share = "" if stage["share"] is None else f", {context.treatment} gets {format_share(stage['share'])} of traffic"
    since = "" if stage["since"] is None else f", since {format_time(stage['since'])}"
    return f"{shorten(stage['label'], 60) or NOTHING}{share}{since}"


def _arms(context: Context) -> str:
    arms = context.analysis["arms"]
    if not arms:
        return "no arm was seen in the logs"
    control = context.analysis["control"]
    return "; ".join(
        f"{shorten(arm['name'], 40)}{' (control)' if arm['name'] == control else ''}: "
        f"{arm['units']:,} units, {arm['interactions']:,} interactions"
        for arm in arms
    )


def _how_sure(context: Context) -> str | None:
    """Return what the decision guarantees, or None where it claims nothing."""
    guardrails = context.guardrails
    harmful = [m for m in guardrails if m["verdict"] == "harm" and m["action"] == "halt"]
    if context.verdict == "halt" and harmful:
        # The test for rare events is against no harm at all; the others are against harm as large as the margin.
        rare = any(m["method"] == "rate_ratio" for m in harmful)
        kind = "does no harm" if rare else "stays within its margins"
        fixed = any(m["method"].startswith("fixed") for m in harmful)
        counted = "for one look at a declared time" if fixed else "over all looks, stages and guardrails"
        budget = format_share(context.analysis["halt_budget"])
        return (
            f"a release that {kind} meets such a proof by mistake in at most {budget} of experiments, counted {counted}"
        )
    # An override or a timeout may promote what is not proven safe.
    if context.verdict in ("promote", "ship") and guardrails and all(m["verdict"] == "safe" for m in guardrails):
        level = format_share(1 - context.analysis["alpha"])
        return f"for each guardrail, harm as large as its margin is ruled out with {level} confidence"
    return None


SECTION = Section(key="summary", title="", order=10, build=build)
