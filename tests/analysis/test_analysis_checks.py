"""Every check is provoked, and is quiet on a healthy log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from analysis_logs import PROPORTION, Record, assign, at, call, spec_of
from analysis_store import StoreMaker

from abtest.analysis.checks import blocking, checks, run_checks
from abtest.analysis.read import read
from abtest.results import Check
from abtest.spec import Experiment

HALF = {"allocation": [{"at": at(0), "share": 0.5}]}
RAMP = {"allocation": [{"at": at(0), "share": 0.25}, {"at": at(24), "share": 0.5}]}
NAMES = {
    "sample_ratio",
    "returning_ratio",
    "contamination",
    "missing_arm",
    "unresolved_rows",
    "randomised",
    "mixed_versions",
}
BLOCKING = {"sample_ratio", "contamination", "missing_arm", "randomised", "mixed_versions"}

Run = Callable[..., dict[str, Check]]


def split(n: int, share: float = 0.5) -> str:
    """Spread units evenly over the arms: exactly `share` of every hundred in B, and the same ones as the share grows."""
    return "B" if (n * 37) % 100 < share * 100 else "A"


def log(units: int = 400, hours: float = 1.0, share: float = 0.5, start: int = 0, **fields: Any) -> list[Record]:
    return [
        call(f"c{hours}-{n}", f"u{n}", split(n, share), hours, prompt_version="v1", refused=False, **fields)
        for n in range(start, start + units)
    ]


@pytest.fixture
def run(make_store: StoreMaker) -> Run:
    def run(records: list[Record], **fields: Any) -> dict[str, Check]:
        cleaned = [{k: v for k, v in r.items() if v is not None} for r in records]
        ev = read(make_store(cleaned), Experiment.from_dict(spec_of(PROPORTION, **{**HALF, **fields})))
        return {c.name: c for c in run_checks(ev)}

    return run


def quiet(found: dict[str, Check], *besides: str) -> None:
    assert {n: c.status for n, c in found.items() if n not in besides} == dict.fromkeys(set(found) - set(besides), "ok")


def test_the_registry_holds_all_of_them() -> None:
    assert {c.name for c in checks()} == NAMES
    assert blocking() == BLOCKING


def test_nothing_to_say_about_a_healthy_log(run: Run) -> None:
    found = run(log())
    assert set(found) == NAMES
    quiet(found, "returning_ratio")
    assert found["returning_ratio"].status == "no_data"  # one stage: nobody can have come back
    assert found["sample_ratio"].pvalue is not None
    assert found["sample_ratio"].pvalue > 0.05


def test_nothing_to_say_about_a_healthy_ramp(run: Run) -> None:
    """Sticky units return in the second stage, some of them now in treatment; new ones join; the flag's version grows."""
    first = log(400, 1, 0.25, ruleset_version="1", model_version="m-1")
    quiet(run([*first, *log(800, 30, 0.5, ruleset_version="2", model_version="m-2")], **RAMP))


def test_an_empty_store_has_no_data_for_any_check(run: Run) -> None:
    assert {c.status for c in run([]).values()} == {"no_data"}
    assert {c.status for c in run([assign("u1", "A", 1)]).values()} == {"no_data"}


def test_without_a_known_share_the_ratio_is_not_tested(run: Run) -> None:
    found = run(log(), allocation=[])
    assert {n for n, c in found.items() if c.status == "no_share"} == {"sample_ratio", "returning_ratio"}
    assert found["sample_ratio"].pvalue is None


# -- sample ratio --------------------------------------------------------------------------------------------------


def test_sample_ratio_fails_when_units_are_lost(run: Run) -> None:
    found = run([r for r in log(1200) if r["variant"] == "A" or int(r["unit_id"][1:]) % 3])
    check = found["sample_ratio"]
    assert (check.status, check.data["stages"][0]["units"]) == ("failed", {"A": 600, "B": 400})
    assert check.pvalue is not None
    assert check.pvalue < 0.01
    assert "400 new units in B, 500 expected (-20 %)" in check.detail
    quiet(found, "sample_ratio", "returning_ratio")


def test_sample_ratio_counts_units_not_calls(run: Run) -> None:
    """Treatment's users send three times as many requests: an effect, not a fault of the split."""
    more = [
        {**r, "interaction_id": f"{r['interaction_id']}-{n}"}
        for n in range(2)
        for r in log(1200)
        if r["variant"] == "B"
    ]
    quiet(run([*log(1200), *more]), "returning_ratio")


def test_sample_ratio_looks_at_new_units_of_the_later_stage(run: Run) -> None:
    """The first stage is fine; in the second one new treatment units are lost, returning ones are not."""
    later = [
        r for r in log(2400, 30, 0.5) if r["variant"] == "A" or int(r["unit_id"][1:]) < 800 or int(r["unit_id"][1:]) % 3
    ]
    found = run([*log(800, 1, 0.25), *later], **RAMP)
    assert found["sample_ratio"].status == "failed"
    assert [s["alarm"] for s in found["sample_ratio"].data["stages"]] == [False, True]
    assert "50 %" in found["sample_ratio"].detail
    quiet(found, "sample_ratio")


def test_returning_units_that_stay_away_are_a_warning(run: Run) -> None:
    """Half of treatment's users do not come back: the release may have caused it, so it does not block."""
    later = [
        r
        for r in log(2400, 30, 0.5)
        if r["variant"] == "A" or int(r["unit_id"][1:]) >= 1600 or int(r["unit_id"][1:]) % 2
    ]
    found = run([*log(1600, 1, 0.25), *later], **RAMP)
    assert found["returning_ratio"].status == "warning"
    assert "returning units in" in found["returning_ratio"].detail
    quiet(found, "returning_ratio")


def test_three_arms_are_tested_together(run: Run) -> None:
    arms = ["A", "B", "C"]
    records = [call(f"c{n}", f"u{n}", arms[n % 3], prompt_version="v1") for n in range(900)]
    thirds = {"treatments": ["B", "C"], "allocation": [{"at": at(0), "share": 0.333333}]}
    quiet(run(records, **thirds), "returning_ratio")
    found = run([r for r in records if r["variant"] != "C" or int(r["unit_id"][1:]) % 2], **thirds)
    assert found["sample_ratio"].status == "failed"
    assert "in C" in found["sample_ratio"].detail


# -- contamination -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("both", "status"), [(0, "ok"), (4, "ok"), (5, "failed")])
def test_contamination_above_one_per_cent_fails(run: Run, both: int, status: str) -> None:
    crossed = [call(f"x{n}", f"u{n}", "A" if split(n) == "B" else "B", 2.0, prompt_version="v1") for n in range(both)]
    found = run([*log(400), *crossed])
    assert (found["contamination"].status, found["contamination"].data["contaminated"]) == (status, both)
    quiet(found, "contamination", "returning_ratio")


def test_contamination_limit_is_the_specs(run: Run) -> None:
    crossed = [call(f"x{n}", f"u{n}", "A" if split(n) == "B" else "B", 2.0, prompt_version="v1") for n in range(20)]
    assert run([*log(400), *crossed], population={"max_contamination": 0.05})["contamination"].status == "ok"


def test_control_first_and_treatment_later_is_no_contamination(run: Run) -> None:
    found = run([*log(400, 1, 0.25), *log(400, 30, 0.5)], **RAMP)
    assert found["contamination"].data["contaminated"] == 0


# -- missing arm -------------------------------------------------------------------------------------------------------


def test_a_missing_arm_fails_and_its_likely_name_is_shown(run: Run) -> None:
    renamed = [{**r, "variant": "b-new" if r["variant"] == "B" else "A"} for r in log(100)]
    check = run(renamed)["missing_arm"]
    assert (check.status, check.data["missing"]) == ("failed", ["B"])
    assert "b-new" in check.detail
    gone = [r for r in log(100) if r["variant"] == "B"]
    assert run(gone)["missing_arm"].data["missing"] == ["A"]


def test_a_small_canary_may_have_no_unit_yet(run: Run) -> None:
    """At 1 % a hundred control units let one expect one unit of treatment."""
    few = [r for r in log(100) if r["variant"] == "A"]
    assert run(few, allocation=[{"at": at(0), "share": 0.01}])["missing_arm"].status == "ok"
    assert run(few, allocation=[{"at": at(0), "share": 0.2}])["missing_arm"].status == "failed"
    assert run(few, allocation=[])["missing_arm"].status == "failed"


# -- rows that do not count --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "status"), [(0, "ok"), (4, "ok"), (5, "warning")])
@pytest.mark.parametrize("how", ["no_unit", "no_arm", "other_arm"])
def test_unresolved_rows_above_one_per_cent_are_a_warning(run: Run, lost: int, status: str, how: str) -> None:
    change: Record = {"no_unit": {"unit_id": None}, "no_arm": {"variant": None}, "other_arm": {"variant": "ghost"}}[how]
    found = run([{**r, **(change if n < lost else {})} for n, r in enumerate(log(400))])
    assert (found["unresolved_rows"].status, found["unresolved_rows"].data[how]) == (status, lost)
    quiet(found, "unresolved_rows", "returning_ratio")


@pytest.mark.parametrize("reason", ["default", "error", "stale", "disabled", "DEFAULT", "Error"])
def test_units_that_a_flag_could_not_split_fail(run: Run, reason: str) -> None:
    assigned = [assign(f"u{n}", split(n), reason=reason if n < 8 else "split") for n in range(400)]
    found = run([*assigned, *[{**r, "variant": None} for r in log(400)]])
    assert (found["randomised"].status, found["randomised"].data["not_randomised"]) == ("failed", 8)
    quiet(found, "randomised", "returning_ratio")


@pytest.mark.parametrize("reason", ["split", "SPLIT", "cached", None, "targeting_match"])
def test_units_that_were_split_pass(run: Run, reason: str | None) -> None:
    assigned = [assign(f"u{n}", split(n), reason=reason) for n in range(400)]
    quiet(run([*assigned, *[{**r, "variant": None} for r in log(400)]]), "returning_ratio")


# -- mixed versions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", ["model", "prompt_version", "prompt_sha256", "prompt_name", "embedding_model_version", "index_id"]
)
@pytest.mark.parametrize(("other", "status"), [(2, "ok"), (3, "failed")])
def test_two_versions_inside_an_arm_fail(run: Run, field: str, other: int, status: str) -> None:
    records = [{**r, field: "new"} if r["variant"] == "B" else r for r in log(400)]
    for r in [r for r in records if r["variant"] == "B"][:other]:
        r[field] = "old"
    found = run(records)
    assert found["mixed_versions"].status == status
    if status == "failed":
        assert f"B: {other} of 200 calls ran {field} 'old' instead of 'new'" in found["mixed_versions"].detail
    quiet(found, "mixed_versions", "returning_ratio")


def test_what_a_log_does_not_carry_is_unknown_not_different(run: Run) -> None:
    records = log(400)
    for n, r in enumerate(records):
        if n % 3:
            r["prompt_version"] = None
    assert run(records)["mixed_versions"].status == "ok"
    for n, r in enumerate(records):
        if n % 9 == 0:
            r["prompt_version"] = "v2"  # most calls are unknown, and yet there are two versions
    assert run(records)["mixed_versions"].status == "failed"


def test_a_declared_arm_is_held_to_its_word(run: Run) -> None:
    arms = {"A": {"prompt_version": "v1"}, "B": {"prompt_version": "v2"}}
    check = run(log(400), arms=arms)["mixed_versions"]
    assert check.status == "failed"
    assert "B: 200 of 200 calls ran prompt_version 'v1' instead of 'v2'" in check.detail
    declared = {"A": {"ruleset_version": "7"}, "B": {"prompt_version": "v1"}}
    assert run(log(400, ruleset_version="8"), arms=declared)["mixed_versions"].status == "failed"
