"""`calibrate`: false halts of good and of mis-specified policies, harm that is found, what is said, and the command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from calibrate_tools import METRICS, clustered_spec, clustered_store, spec_of
from statsmodels.stats.proportion import proportion_confint

import abtest as ab
from abtest.errors import InvalidInputError, NoDataError, SpecError, UsageError
from abtest.rollout.calibrate import calibrate
from abtest.rollout.calibrate_results import Share, median
from abtest.rollout.rules import FINDING_CODES
from abtest.store.store import Store
from tests.cli.runner import call

FULL = os.environ.get("ABTEST_CALIBRATE") == "full"
TIGHT = [{"name": "refusal_rate", "kind": "mean", "value": "CASE WHEN refused THEN 1 ELSE 0 END", "better": "lower",
          "guardrail": {"margin": {"absolute": 0.003}}}]  # fmt: skip


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """Return the folder of a healthy log: 2,500 users, ten days."""
    from abtest.simulate import simulate, write

    folder = tmp_path_factory.mktemp("healthy")
    write(simulate("healthy", users=20_000 if FULL else 2000, seed=2), folder)
    with Store(folder / "abtest.duckdb") as store:
        store.ingest(folder / "logs")
    return folder


@pytest.fixture(scope="module")
def clustered(tmp_path_factory):
    return clustered_store(tmp_path_factory.mktemp("clustered"))


@pytest.fixture(scope="module")
def found(healthy):
    with Store(healthy / "abtest.duckdb") as store:
        return calibrate(
            store, spec_of(), runs=200 if FULL else 18, harmed_runs=50 if FULL else 6, every_hours=1 if FULL else 6,
            inject={"refusal_rate": [1, 4], "cost": [4]},
        )  # fmt: skip


@pytest.mark.calibration
def test_a_healthy_policy_keeps_its_promise(found):
    """Null hypothesis: pseudo-arms of one baseline. False halts at or below the 1 % that the policy promises."""
    assert found.nominal == 0.01
    assert found.false_halts.runs == found.runs
    assert found.false_halts.lower <= found.nominal
    assert not any(f.code == "false_halts" for f in found.findings)


@pytest.mark.calibration
def test_harm_is_found_and_not_promoted(found):
    four, one, cost = found.harm("refusal_rate", 4), found.harm("refusal_rate", 1), found.harm("cost", 4)
    assert four.detected.share >= 0.8
    assert cost.detected.share >= 0.8
    assert four.promoted.count == 0
    assert one.detected.share <= four.detected.share
    assert four.median_hours < found.baseline["hours"]
    assert 0 < four.median_units < found.baseline["randomised_units"]
    assert len(four.hours) == four.detected.count
    assert list(four.hours) == sorted(four.hours)


@pytest.mark.calibration
def test_rows_taken_for_users_and_fixed_tests_looked_at_every_hour_do_damage(clustered):
    """Ten calls a user, intra-class correlation 0.3, 72 looks: one halt in eight is false at a nominal 1 %."""
    wrong = clustered_spec(metrics=TIGHT, unit="request", sequential={"method": "fixed"})
    right = clustered_spec(metrics=TIGHT)
    with Store(clustered) as store:
        bad = calibrate(store, wrong, runs=80, inject={})
        good = calibrate(store, right, runs=80, inject={})
    assert bad.false_halts.lower > bad.nominal
    assert good.false_halts.count == 0
    codes = [f.code for f in bad.findings]
    assert codes[0] == "false_halts"
    assert {"unit_too_fine", "fixed_looks"} <= set(codes)
    message = bad.findings[0].message
    assert 'unit = "user"' in message
    assert 'method = "anytime"' in message
    assert "intra-class correlation 0.2" in message or "intra-class correlation 0.3" in message
    assert not {"unit_too_fine", "fixed_looks", "false_halts"} & {f.code for f in good.findings}


def test_a_request_that_is_really_randomised_may_be_the_unit(clustered):
    """Said so, requests are put into arms one by one, and the unit is no cause any more."""
    with Store(clustered) as store:
        found = calibrate(store, clustered_spec(unit="request"), runs=2, inject={}, randomised="request")
        assert found.baseline["randomised_units"] == found.baseline["calls"] == 3000
        assert not {"unit_too_fine", "randomised"} & {f.code for f in found.findings}
        with pytest.raises(SpecError, match="a user would be in both arms"):
            calibrate(store, clustered_spec(), runs=1, inject={}, randomised="request")


def test_the_same_seed_gives_the_same_answer_and_another_another(clustered):
    with Store(clustered) as store:
        first, again, other = (
            calibrate(store, clustered_spec(), runs=6, harmed_runs=3, seed=s, inject={"refusal_rate": [10]})
            for s in (4, 4, 5)
        )
    plain = [{k: v for k, v in c.to_dict().items() if k != "seconds"} for c in (first, again, other)]
    assert plain[0] == plain[1]
    assert plain[0]["harms"][0]["hours"]
    assert {**plain[0], "seed": 5} != plain[2]
    json.dumps(plain[0], allow_nan=False)


def test_by_the_calendar_all_stages_are_replayed(healthy):
    with Store(healthy / "abtest.duckdb") as store:
        slow = spec_of(ramp=[{"stage": "canary", "share": 0.01}, {"stage": "ab", "share": 0.5}])
        by_policy = calibrate(store, slow, runs=2, inject={}, every_hours=12)
        by_calendar = calibrate(store, slow, runs=2, inject={}, every_hours=12, widen="calendar")
    assert [s["entered"] for s in by_policy.stages] == [2, 0]
    assert "never_promoted" in {f.code for f in by_policy.findings}
    assert [s["entered"] for s in by_calendar.stages] == [2, 2]
    assert by_calendar.stages[1]["median_hours"] == 24


def test_calls_from_before_the_experiment_are_a_baseline_too(healthy):
    """No arm, no experiment: everything before the start that the population has."""
    with Store(healthy / "abtest.duckdb") as store:
        future = spec_of(id="not-begun", start="2026-11-18T00:00:00Z")
        found = calibrate(store, future, runs=1, inject={}, every_hours=24)
        assert found.baseline["source"] == "before"
        assert found.baseline["hours"] <= 8 * 24
        own = calibrate(store, spec_of(), runs=1, inject={}, every_hours=24)
        assert own.baseline["source"] == "control"
        assert own.baseline["calls"] < store.connection.execute(
            "select count(*) from interaction where surface = 'support'"
        ).fetchone()[0]  # fmt: skip
        with pytest.raises(NoDataError):
            calibrate(store, future, runs=1, source="control")


def test_nothing_to_replay_on(tmp_path):
    with Store(tmp_path / "empty.duckdb") as store, pytest.raises(NoDataError, match="empty"):
        calibrate(store, spec_of(), runs=1)


@pytest.mark.parametrize(
    ("changes", "arguments", "error", "word"),
    [
        ({"treatments": ["candidate", "other"], "ramp": None}, {}, SpecError, "exactly one treatment"),
        ({}, {"runs": 0}, UsageError, "0 runs"),
        ({}, {"every_hours": 0}, UsageError, "every 0 hours"),
        ({}, {"widen": "mood"}, UsageError, "mood"),
        ({}, {"inject": {"refusal_rat": [1]}}, UsageError, "refusal_rat"),
        ({}, {"inject": {"cost": [0]}}, UsageError, "above 0"),
        ({"segments": [{"name": "surface", "by": "surface"}],
          "metrics": [{**METRICS[0], "guardrail": {"margin": {"points": 0.01}, "segments": ["surface=support"]}}]},
         {}, SpecError, "segments"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_at_once(clustered, changes, arguments, error, word):
    with Store(clustered) as store, pytest.raises(error, match=word):
        calibrate(store, spec_of(**changes), **{"runs": 1, **arguments})


def test_an_expression_that_does_not_fit_is_a_spec_error(clustered):
    wrong = {
        "name": "odd",
        "kind": "mean",
        "value": "model",
        "better": "lower",
        "guardrail": {"margin": {"absolute": 1}},
    }
    with Store(clustered) as store, pytest.raises(SpecError):
        calibrate(store, clustered_spec(metrics=[wrong]), runs=1)


def test_a_harm_that_cannot_be_is_said_to_be_unsupported(clustered):
    proportion = {"name": "refused", "kind": "proportion", "event": "refused", "better": "lower",
                  "guardrail": {"margin": {"points": 0.4}}}  # fmt: skip
    with Store(clustered) as store:
        found = calibrate(store, clustered_spec(metrics=[proportion]), runs=2, harmed_runs=2, inject={"refused": [4]})
    assert found.harm("refused", 4).status == "unsupported"
    assert found.harm("refused", 4).detected.share is None
    assert "cannot be" in found.to_text()
    with pytest.raises(KeyError):
        found.harm("refused", 2)


@pytest.mark.parametrize(("count", "runs"), [(0, 200), (3, 200), (13, 80), (200, 200)])
def test_exact_intervals(count, runs):
    """Golden: statsmodels.stats.proportion.proportion_confint(count, runs, method="beta"); for 0 of n, 1 - 0.025^(1/n)."""
    share = Share.of(count, runs)
    assert (share.lower, share.upper) == pytest.approx(proportion_confint(count, runs, method="beta"), abs=1e-12)
    if count == 0:
        assert share.upper == pytest.approx(1 - 0.025 ** (1 / runs), rel=1e-9)


def test_shares_of_nothing_and_medians():
    assert Share.of(0, 0).to_dict() == {"count": 0, "runs": 0, "share": None, "lower": None, "upper": None}
    with pytest.raises(InvalidInputError):
        Share.of(3, 2)
    assert median([1.0, 2.0, 9.0], 3) == 2.0
    assert median([1.0, 2.0], 4) is None  # the middle lies between 2 and never
    assert median([1.0, 2.0, 3.0], 4) == 2.5
    assert median([], 0) is None


def test_it_is_shown_as_text_html_polars_and_pictures(found):
    text = repr(found)
    assert "False halts: " in text
    assert "refusal_rate" in text
    html = found._repr_html_()
    assert "<table" in html
    frame = found.to_polars()
    assert frame.height == 3
    assert {"metric", "multiple", "detected_share", "promoted_upper", "median_hours"} <= set(frame.columns)
    for name in ("halts", "detection", "promotes"):
        from abtest.charts import to_svg

        svg = to_svg(found.plot(name))
        assert svg.startswith("<svg")
        assert "<desc>" in svg
    with pytest.raises(InvalidInputError, match="no picture"):
        found.plot("nothing")


def test_findings_are_in_the_closed_list(found):
    codes = {"false_halts", "false_promotes", "halts_at_margin", "conservative", "few_runs", "unit_too_fine", "fixed_looks", "share_unknown",
             "harm_missed", "not_replayed", "never_promoted", "randomised"}  # fmt: skip
    assert codes <= set(FINDING_CODES)
    assert {f.code for f in found.findings} <= codes
    listed = (Path(__file__).parents[2] / "docs/reference/codes.md").read_text(encoding="utf-8")
    assert all(f"`{code}`" in listed for code in codes)


def test_the_command(clustered, capsys, tmp_path):
    spec = tmp_path / "experiment.toml"
    spec.write_text(
        'id = "swap"\ncontrol = "baseline"\ntreatments = ["candidate"]\n[[metrics]]\nname = "refused"\nkind = "proportion"\n'
        'event = "refused"\nbetter = "lower"\nguardrail = { margin = { points = 0.05 } }\n[[ramp]]\nstage = "ab"\nshare = 0.5\n'
    )
    args = ("calibrate", spec, "--db", clustered, "--runs", "4", "--every", "6h", "--inject", "refused=x3")
    result = call(capsys, *args, "--json", "--picture", tmp_path / "pictures")
    assert result.code == 0
    data = result.json
    assert data["schema"] == "abtest.calibrate/1"
    assert (data["runs"], data["every_hours"], data["harms"][0]["multiple"]) == (4, 6, 3)
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["detection.svg", "halts.svg", "promotes.svg"]
    text = call(capsys, *args)
    assert "False halts: " in text.out
    assert "3 x margin" in text.out
    for wrong, word in (
        (("--inject", "refused"), "no harm"),
        (("--every", "90m"), "time between looks"),
        (("--runs", "0"), "0 runs"),
    ):
        failed = call(capsys, "calibrate", spec, "--db", clustered, *wrong)
        assert failed.code == 2
        assert word in failed.err
    assert call(capsys, "calibrate", spec, "--db", tmp_path / "none.duckdb").code == 40


def test_it_is_a_public_name():
    assert ab.calibrate is calibrate
    assert {"calibrate", "plan", "Calibration", "Plan"} <= set(ab.__all__)
