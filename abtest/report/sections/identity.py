"""Which decision this is: the ids that let anyone verify and replay it."""

from __future__ import annotations

from collections.abc import Sequence

from abtest.report.context import Context
from abtest.report.model import Block, Facts, Paragraph, Section


def build(context: Context) -> Sequence[Block]:
    """Return ids and hashes, and whether the policy changed while this revision ran."""
    decision, analysis = context.decision or {}, context.analysis
    policy = decision.get("policy_sha256") or analysis["policy_sha256"]
    facts = [
        ("Decision", decision.get("decision_id")),
        ("Decision before", decision.get("previous_decision_id")),
        ("Policy", policy),
        ("Evidence", analysis["evidence_sha256"]),
    ]
    blocks: list[Block] = [Facts([(label, value) for label, value in facts if value])]
    policies = {r["policy_sha256"] for r in context.history if r.get("policy_sha256")} | ({policy} if policy else set())
    if len(policies) > 1:
        blocks.insert(0, Paragraph(f"The policy was changed in this revision: {len(policies)} versions of it.", "warn"))
    known = any(value for _, value in facts)
    return blocks if known else []


SECTION = Section(key="identity", title="To verify and replay", order=90, build=build)
