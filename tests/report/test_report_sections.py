"""Sections: what each tells, and the contract that every file in the folder keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import report_samples as samples

from abtest.display import Table
from abtest.report import sections
from abtest.report.context import Context
from abtest.report.model import Entry, Facts, Listing, Paragraph, Pictures
from abtest.report.sections import all_sections
from abtest.results import Check

SECTIONS = {section.key: section for section in all_sections()}
ENTRIES = {"halted": samples.halted, "healthy": samples.healthy, "holding": samples.holding, "unknown": samples.unknown,
           "empty": samples.empty, "hostile": samples.hostile}  # fmt: skip


def blocks(key: str, entry: Entry) -> list:
    return list(SECTIONS[key].build(Context(entry)))


def table(key: str, entry: Entry) -> Table:
    return next(block for block in blocks(key, entry) if isinstance(block, Table))


def facts(key: str, entry: Entry) -> dict[str, str]:
    return dict(next(block for block in blocks(key, entry) if isinstance(block, Facts)).items)


def test_every_file_of_the_folder_is_a_section():
    files = {path.stem for path in Path(sections.__file__).parent.glob("*.py")} - {"__init__"}
    assert len(files) == len(SECTIONS) == len(all_sections())
    assert [s.order for s in all_sections()] == sorted({s.order for s in all_sections()})
    assert SECTIONS["summary"].order == min(s.order for s in all_sections())


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("key", SECTIONS)
def test_contract_of_a_section(key, name):
    entry = ENTRIES[name]()
    built = blocks(key, entry)
    assert all(isinstance(block, (Paragraph, Facts, Listing, Pictures, Table)) for block in built)
    assert SECTIONS[key].title or key == "summary"
    if name == "empty":
        assert not built or key in ("summary", "method")
    for block in built:
        if isinstance(block, Pictures):
            assert block.items
            assert all(picture.svg.startswith("<svg ") and picture.caption for picture in block.items)
        if isinstance(block, Facts):
            assert all(label and text for label, text in block.items)


def test_summary_answers_when_how_sure_and_of_what():
    shown = facts("summary", samples.halted())
    assert shown["Since"] == "19 Nov 2026, 17:00 UTC"
    assert shown["Harm first proven"] == "19 Nov 2026, 17:00 UTC (refusal_rate)"
    assert shown["How sure"].startswith(
        "A release that stays within its margins meets such a proof by mistake in at most 1 %"
    )
    assert shown["Stage"] == "canary 5 %, candidate gets 5 % of traffic, since 19 Nov 2026, 09:00 UTC"
    assert shown["Compared"].startswith(
        "baseline (control): 52,310 units, 163,900 interactions; candidate: 2,748 units"
    )
    assert shown["Evidence until"] == "20 Nov 2026, 10:00 UTC"


def test_how_sure_claims_only_what_was_proven():
    halted, healthy = samples.halted(), samples.healthy()
    assert facts("summary", healthy)["How sure"] == (
        "For each guardrail, harm as large as its margin is ruled out with 95 % confidence."
    )
    unsure = replace(healthy, analysis=replace(healthy.analysis, metrics=(samples.COST,)))
    assert "How sure" not in facts("summary", unsure)
    assert "How sure" not in facts("summary", samples.holding())
    recovered = replace(halted, analysis=replace(halted.analysis, metrics=(replace(samples.REFUSALS, verdict="safe"),)))
    assert "How sure" not in facts("summary", recovered)
    rare = replace(halted, analysis=replace(halted.analysis, metrics=(replace(samples.REFUSALS, method="rate_ratio"),)))
    assert "a release that does no harm" in facts("summary", rare)["How sure"].lower()
    fixed = replace(halted, analysis=replace(halted.analysis, metrics=(replace(samples.REFUSALS, method="fixed_z"),)))
    assert facts("summary", fixed)["How sure"].endswith("for one look at a declared time.")


def test_findings_are_sorted_by_severity():
    (listing,) = blocks("findings", samples.halted())
    assert [item.label for item in listing.items] == ["Critical", "Warning", "Note"]
    assert [item.tone for item in listing.items] == ["bad", "warn", "muted"]


def test_guardrails_show_effect_margin_harm_and_verdict():
    shown = table("guardrails", samples.halted()).to_markdown().splitlines()
    assert shown[0] == "| Metric | baseline | candidate | Change | Margin | Harm | If harmful | Verdict |"
    assert (
        shown[2]
        == "| refusal_rate | 2.10 % | 5.21 % | +3.1 pp [+1.9, +4.6] | +1 pp | +1.9 to +4.2 pp | halt | harm proven |"
    )
    assert shown[5].endswith("| +2 pp | \u2013 | hold | too little data yet |")
    assert any(isinstance(block, Pictures) for block in blocks("guardrails", samples.halted()))
    assert not any(isinstance(block, Pictures) for block in blocks("guardrails", samples.unknown()))


def test_over_time_has_a_picture_for_each_guardrail_and_success_metric_with_a_series():
    (pictures,) = blocks("over-time", samples.halted())
    names = [picture.caption.split(":")[0] for picture in pictures.items]
    assert names == ["refusal_rate", "latency_p99", "cost_per_success", "helpfulness"]
    assert pictures.items[0].caption == "refusal_rate: +3.1 pp [+1.9, +4.6], margin +1 pp"


def test_a_series_that_cannot_be_drawn_is_said():
    broken = replace(samples.REFUSALS, series=(replace(samples.REFUSALS.series[0], at="yesterday"),))
    entry = samples.halted()
    (note,) = blocks("over-time", replace(entry, analysis=replace(entry.analysis, metrics=(broken,))))
    assert note.text == "refusal_rate cannot be drawn: 'yesterday' is no ISO time."


def test_success_and_other_metrics():
    row = table("success", samples.healthy()).to_markdown().splitlines()[2]
    assert (
        row
        == "| helpfulness | 0.712 | 0.743 | +0.031 [+0.012, +0.050] | +4.3 % [+1.7, +7.0] | 0.0004 | higher | better |"
    )
    row = table("others", samples.halted()).to_markdown().splitlines()[2]
    assert row.startswith("| output_tokens_p50 | 312 tokens | 287 tokens | -25.0 tokens [-31.0, -18.0] | -8.0 % |")


def test_checks_that_did_not_run_never_pass():
    checks = (
        Check("sample_ratio", "no_share"),
        Check("contamination", "failed", 0.001, "2 % in both"),
        Check("x", "ok"),
    )
    entry = samples.halted()
    shown = table("checks", replace(entry, analysis=replace(entry.analysis, checks=checks)))
    assert [row[1].text for row in shown.rows] == ["not run: traffic share not known", "failed", "passed"]
    assert [row[1].tone for row in shown.rows] == ["muted", "bad", "good"]


def test_method_names_levels_and_adjustments():
    built = blocks("method", samples.halted())
    assert built[0].text.startswith(
        "Error levels: 5 % for intervals and for calling a guardrail safe, 1 % for stopping"
    )
    text = built[1].to_markdown()
    assert (
        "| cost_per_success | normal mixture | 5 % | 0.25 % | 52,310 + 2,748 | 171,204 | 412 | Cost winsorised" in text
    )
    assert "Holm over 2 success metrics" in text
    assert built[2].items[0].text == "CUPED was used for helpfulness only."


def test_history_joins_equal_decisions():
    done, decisions = blocks("history", samples.halted())
    assert [row[:2] for row in done.rows] == [["flag", "done"], ["webhook", "done"]]
    assert [row[1:4] for row in decisions.rows] == [
        ["halt", "canary 5 %", 18], ["promote", "canary 1 %", 1], ["hold", "canary 1 %", 23]
    ]  # fmt: skip
    assert decisions.rows[0][0] == "19 Nov 2026, 17:00 UTC"
    (before,) = blocks("history", samples.healthy())
    assert before.rows[0][0] == 2
    assert before.rows[0][2:] == ["halt", "HALT: cost"]


def test_long_history_is_cut_and_says_so():
    entry = samples.halted()
    history = [
        {"decision": ("hold", "promote")[i % 2], "as_of": samples.hour(i), "decision_id": str(i)} for i in range(40)
    ]
    shown = blocks("history", replace(entry, history=tuple(history)))[1]
    assert len(shown.rows) == 12
    assert shown.notes == ["29 earlier changes are not shown."]


def test_identity_shows_ids_and_a_changed_policy():
    entry = samples.halted()
    (shown,) = blocks("identity", entry)
    assert dict(shown.items)["Decision"] == "a1" * 32
    assert dict(shown.items)["Evidence"] == "9c" * 32
    record = {"decision": "hold", "as_of": samples.hour(3), "policy_sha256": "77" * 32}
    warning, _ = blocks("identity", replace(entry, history=(*entry.history, record)))
    assert (warning.text, warning.tone) == ("The policy was changed in this revision: 2 versions of it.", "warn")


def test_several_treatments_are_told_apart():
    entry = samples.halted()
    metrics = (samples.REFUSALS, replace(samples.REFUSALS, treatment="other"))
    both = replace(entry, decision=None, analysis=replace(entry.analysis, metrics=metrics))
    shown = table("guardrails", both)
    assert [row[0] for row in shown.rows] == ["refusal_rate in candidate", "refusal_rate in other"]
    assert [head.label for head in shown.heads][1:3] == ["baseline", "Treatment"]
