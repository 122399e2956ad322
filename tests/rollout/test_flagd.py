"""The flagd flag-file actuator: rules, text, file; and the contract that every actuator keeps."""

import inspect
import json
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abtest.errors import ActuatorError
from abtest.rollout.actuators import _flagd_rules as rules
from abtest.rollout.actuators import actuator_type, actuator_types, flagd
from abtest.rollout.actuators._json_text import patch
from abtest.rollout.actuators.base import Actuator, HaltRequest, ShareRequest, TrafficActuator
from abtest.rollout.actuators.flagd import FlagdFile

BUCKET = {"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]}
IS_STAFF = {"==": [{"var": "tier"}, "staff"]}
HALT = HaltRequest("swap", 1, "decision-1", "policy-1", "baseline", ("candidate",))

# Spelled as people spell it: pairs on one line, escapes and odd numbers, an inline object, no newline at the end.
TEXT = """{
    "$schema": "https://flagd.dev/schema/v0/flags.json",
    "metadata": {"team": "Übersetzung", "odd": 1.50},
    "flags": {
        "before": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"},
        "support-model": {
            "state": "ENABLED",
            "variants": {"baseline": "gpt", "candidate": "sonnet", "other": "h\\u00e9"},
            "defaultVariant": "baseline",
            "targeting": {"if": [
                {"==": [{"var": "tier"}, "staff"]},
                {"fractional": [["candidate"], ["baseline"]]},
                {"fractional": [
                    {"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]},
                    ["candidate", 5],
                    ["baseline", 95]
                ]}
            ]},
            "metadata": {"owner": "Zoë"}
        },
        "after": {"state": "DISABLED", "variants": {"a": 1e3, "b": 2}, "targeting": null}
    }
}"""


def untouched(path):
    """Return what a write would change; reading may change the access time."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def flag(targeting=None, **changes):
    base = {
        "state": "ENABLED",
        "variants": {"baseline": "b", "candidate": "c", "other": "o"},
        "defaultVariant": "baseline",
        "targeting": targeting,
    }
    return {k: v for k, v in (base | changes).items() if v is not None}


def halted(targeting=None, evaluators=None, **changes):
    change = rules.halted(flag(targeting, **changes), "baseline", frozenset({"candidate"}), evaluators)
    return change.flag, " ".join(change.notes)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "flags.json"
    file.write_text(TEXT, encoding="utf-8")
    return file


def write(file, targeting=None, **changes):
    file.write_text(json.dumps({"flags": {"support-model": flag(targeting, **changes)}}, indent=2), encoding="utf-8")


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))["flags"]["support-model"]


def folder_listing(file):
    return sorted(p.name for p in file.parent.iterdir())


# --- the contract of every actuator -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(actuator_types()))
def test_every_actuator_keeps_the_contract(name):
    cls = actuator_types()[name]
    assert cls.name == name
    assert actuator_type(name) is cls
    assert cls.__doc__
    for method in (cls.halt, *([cls.set_share] if hasattr(cls, "set_share") else [])):
        parameters = inspect.signature(method).parameters
        assert list(parameters) == ["self", "request", "dry_run"]
        assert parameters["dry_run"].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters["dry_run"].default is False
        assert "Raises:" in (method.__doc__ or "")
    assert inspect.signature(cls.check).parameters["arms"].default == ()


def test_the_flag_file_is_found_and_can_set_traffic(path):
    actuator = actuator_type("flagd")(path, "support-model")
    assert isinstance(actuator, Actuator)
    assert isinstance(actuator, TrafficActuator)
    with pytest.raises(ActuatorError, match="did you mean 'flagd'"):
        actuator_type("flagdd")


@pytest.mark.parametrize("treatments", [(), ("baseline",), ("candidate", "baseline")])
def test_a_request_needs_arms_that_differ(treatments):
    with pytest.raises(ActuatorError, match="cannot be told apart"):
        HaltRequest("swap", 1, "d", "p", "baseline", treatments)


# --- rules: fractionals go to 0 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([BUCKET, ["candidate", 5], ["baseline", 95]], [BUCKET, ["candidate", 0], ["baseline", 100]]),
        ([BUCKET, ["baseline", 95], ["candidate", 5]], [BUCKET, ["baseline", 100], ["candidate", 0]]),
        ([["candidate", 5], ["baseline", 95]], [["candidate", 0], ["baseline", 100]]),
        ([["candidate"], ["baseline"]], [["candidate", 0], ["baseline", 100]]),
        ([["candidate", 1]], [["candidate", 0], ["baseline", 100]]),
        ([BUCKET, ["candidate", {"var": "w"}], ["baseline", 95]], [BUCKET, ["candidate", 0], ["baseline", 100]]),
        # flagd ignores a fractional with a float weight and takes defaultVariant; integers repair it.
        ([BUCKET, ["candidate", 2.5], ["baseline", 97.5]], [BUCKET, ["candidate", 0], ["baseline", 100]]),
        # Nothing to do: the weights of the others are not ours.
        ([BUCKET, ["candidate", 0], ["baseline", 7]], [BUCKET, ["candidate", 0], ["baseline", 7]]),
        ([BUCKET, ["candidate", -3], ["baseline", 7]], [BUCKET, ["candidate", -3], ["baseline", 7]]),
        ([BUCKET, ["other", 5], ["baseline", 95]], [BUCKET, ["other", 5], ["baseline", 95]]),
        # A third variant keeps its range of the hash: the control takes the candidate's place.
        (
            [BUCKET, ["baseline", 80], ["candidate", 5], ["other", 15]],
            [BUCKET, ["baseline", 80], ["baseline", 5], ["candidate", 0], ["other", 15]],
        ),
    ],
)
def test_treatment_weight_becomes_zero(before, after):
    new, notes = halted({"fractional": before})
    assert new["targeting"] == {"fractional": after}
    assert new["defaultVariant"] == "baseline"
    assert new["state"] == "ENABLED"
    assert ("weight 0 in 1 fractional" in notes) == (before != after)


def test_every_nested_fractional_and_every_treatment():
    split = [["candidate", 5], ["second", 5], ["baseline", 90]]
    nested = {"if": [IS_STAFF, {"fractional": split}, {"if": [{"var": "x"}, {"fractional": [BUCKET, *split]}, None]}]}
    variants = {"baseline": 1, "candidate": 2, "second": 3}
    change = rules.halted(flag(nested, variants=variants), "baseline", frozenset({"candidate", "second"}))
    zero = [["candidate", 0], ["second", 0], ["baseline", 100]]
    assert change.flag["targeting"] == {
        "if": [IS_STAFF, {"fractional": zero}, {"if": [{"var": "x"}, {"fractional": [BUCKET, *zero]}, None]}]
    }
    assert change.notes == ("candidate, second set to weight 0 in 2 fractional",)


@pytest.mark.parametrize(
    ("targeting", "why"),
    [
        ({"if": [IS_STAFF, "candidate", None]}, "gives 'candidate' directly"),
        ({"if": [IS_STAFF, "candidate", {"fractional": [["candidate", 5], ["baseline", 95]]}]}, "directly"),
        ({"if": [IS_STAFF, {"if": [{"var": "x"}, "baseline", "candidate"]}, "baseline"]}, "directly"),
        ({"?:": [IS_STAFF, "baseline", "candidate"]}, "directly"),
        ({"if": ["candidate"]}, "directly"),
        ({"if": "candidate"}, "directly"),
        ({"var": "variant"}, "operator 'var'"),
        ({"var": ["variant", "candidate"]}, "operator 'var'"),
        ({"cat": ["cand", "idate"]}, "operator 'cat'"),
        ({"or": [{"fractional": [["candidate", 5], ["baseline", 95]]}, "baseline"]}, "operator 'or'"),
        ({"fractionalEvaluation": ["email", ["candidate", 5], ["baseline", 95]]}, "operator 'fractionalEvaluation'"),
        ({"if": [IS_STAFF, {"var": "forced"}, "baseline"]}, "operator 'var'"),
        ({"fractional": [BUCKET, [{"var": "forced"}, 5], ["baseline", 95]]}, "computes the name"),
        ({"fractional": [BUCKET, [{"if": [IS_STAFF, "candidate", "other"]}, 5], ["baseline", 95]]}, "computes"),
        ({"fractional": [BUCKET, ["candidate", 5, 1], ["baseline", 95]]}, "malformed"),
        ({"fractional": [BUCKET, "candidate"]}, "malformed"),
        ({"fractional": []}, "malformed"),
        ({"fractional": {"merge": [["candidate", 5]]}}, "malformed"),
        ({"fractional": ["candidate", ["candidate", 5], ["baseline", 95]]}, "condition names 'candidate'"),
        ({"if": [{"==": [{"var": "forced"}, "candidate"]}, "other", "baseline"]}, "condition names 'candidate'"),
        ({"if": [IS_STAFF, "baseline", None], "comment": "two operators"}, "exactly one operator"),
        ({"if": [IS_STAFF, ["candidate"], "baseline"]}, "condition names"),
        ("candidate", "not an object"),
        ({"$ref": "missing"}, "cannot be followed"),
    ],
)
def test_targeting_that_still_reaches_the_treatment_is_removed(targeting, why):
    new, notes = halted(targeting, metadata={"owner": "me"})
    assert "targeting" not in new
    assert new["defaultVariant"] == "baseline"
    assert new["state"] == "ENABLED"
    assert new["metadata"] == {"owner": "me"}
    assert "targeting removed and everybody gets 'baseline'" in notes
    assert why in notes


@pytest.mark.parametrize(
    "targeting",
    [
        {"if": [IS_STAFF, "other", None]},
        {"if": [IS_STAFF, "other", {"var": "x"}, "baseline", "other"]},
        {"if": [{"and": [IS_STAFF, {"fractional": [["candidate", 0], ["other", 1]]}]}, "other", "baseline"]},
        {"if": [{"$ref": "staff"}, "other", {"$ref": "split"}]},
        {"fractional": [{"var": "email"}, [None, 5], ["other", 95]]},
    ],
)
def test_rules_that_cannot_reach_the_treatment_stay(targeting):
    evaluators = {"staff": IS_STAFF, "split": {"fractional": [["other", 5], ["candidate", 0]]}}
    new, notes = halted(targeting, evaluators)
    assert new == flag(targeting)
    assert notes == ""


@pytest.mark.parametrize(
    ("evaluators", "why"),
    [
        ({"split": {"fractional": [["candidate", 5], ["baseline", 95]]}}, "gives 'candidate' (in the shared rule"),
        ({"split": {"if": [IS_STAFF, {"$ref": "deeper"}]}, "deeper": {"if": [IS_STAFF, "candidate"]}}, "'deeper'"),
        ({"split": {"if": [IS_STAFF, {"$ref": "split"}]}}, "cannot be followed"),
        ({"split": {"var": "x"}}, "operator 'var'"),
    ],
)
def test_a_shared_rule_is_not_changed_but_left_out(evaluators, why):
    kept = json.dumps(evaluators)
    new, notes = halted({"if": [IS_STAFF, "baseline", {"$ref": "split"}]}, evaluators)
    assert "targeting" not in new
    assert why in notes
    assert json.dumps(evaluators) == kept


def test_a_shared_condition_that_names_the_treatment_counts():
    new, _ = halted({"if": [{"$ref": "c"}, "baseline", None]}, {"c": {"==": [{"var": "x"}, "candidate"]}})
    assert "targeting" not in new


def test_default_variant_of_the_treatment_removes_the_targeting():
    new, notes = halted({"if": [IS_STAFF, "baseline"]}, defaultVariant="candidate")
    assert (new.get("targeting"), new["defaultVariant"]) == (None, "baseline")
    assert "because defaultVariant was 'candidate'" in notes
    new, notes = halted(None, defaultVariant="candidate")
    assert new["defaultVariant"] == "baseline"
    assert "targeting removed" not in notes


@pytest.mark.parametrize("default", [None, "", "gone"])
def test_without_a_default_variant_the_code_default_would_count(default):
    new, notes = halted({"fractional": [{"var": "email"}, ["candidate", 0], ["baseline", 1]]}, defaultVariant=default)
    assert new["defaultVariant"] == "baseline"
    assert "is now 'baseline'" in notes


def test_a_third_default_variant_stays():
    assert halted(None, defaultVariant="other")[0]["defaultVariant"] == "other"


def test_boolean_variants_named_by_booleans():
    variants = {"true": "new", "false": "old"}
    for targeting in ({"if": [IS_STAFF, True, False]}, {"ends_with": [{"var": "email"}, "@x.org"]}):
        change = rules.halted(flag(targeting, variants=variants, defaultVariant=False), "false", frozenset({"true"}))
        assert (change.flag.get("targeting"), change.flag["defaultVariant"]) == (None, "false")
    pairs = {"fractional": [[True, 5], [False, 95]]}
    change = rules.halted(flag(pairs, variants=variants, defaultVariant=False), "false", frozenset({"true"}))
    assert change.flag["targeting"] == {"fractional": [[True, 0], [False, 100]]}
    assert change.flag["defaultVariant"] is False


@pytest.mark.parametrize("state", ["DISABLED", None, "on"])
def test_a_disabled_flag_is_enabled_with_the_control_only(state):
    new, notes = halted({"if": [IS_STAFF, "other", "baseline"]}, state=state)
    assert (new["state"], new["defaultVariant"]) == ("ENABLED", "baseline")
    assert "targeting" not in new
    assert f"state was {state!r}, which gives every caller its code default" in notes


# --- rules: shares ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.05, (5, 100)),
        (0.001, (1, 1000)),
        (0.125, (125, 1000)),
        (0, (0, 100)),
        (1.0, (100, 100)),
        (0.5, (50, 100)),
        (1e-9, (1, 10**9)),
        (1e-10, None),
        (0.1 + 0.2, None),
        (-0.1, None),
        (1.1, None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_shares_are_exact_integers(share, expected):
    if expected is None:
        with pytest.raises(ActuatorError, match="share"):
            rules.weights(share)
    else:
        assert rules.weights(share) == expected


def test_set_share_keeps_order_and_condition():
    targeting = {"if": [IS_STAFF, "candidate", {"fractional": [BUCKET, ["baseline", 95], ["candidate", 5]]}]}
    change = rules.shared(flag(targeting), "baseline", "candidate", 0.001)
    after = {"if": [IS_STAFF, "candidate", {"fractional": [BUCKET, ["baseline", 999], ["candidate", 1]]}]}
    assert change.flag == flag(after)
    assert change.notes[0] == "candidate:baseline is 1:999 in 1 fractional"
    assert change.notes[1] == "beside it, a rule gives 'candidate' directly"


def test_set_share_without_targeting_writes_the_standard_fractional():
    change = rules.shared(flag(None, defaultVariant=None), "baseline", "candidate", 0.2)
    assert change.flag["targeting"] == {"fractional": [BUCKET, ["candidate", 20], ["baseline", 80]]}
    assert change.flag["defaultVariant"] == "baseline"
    assert rules.shared(flag(), "baseline", "candidate", 0.2).notes == (
        "candidate:baseline is 20:80 in a new fractional",
    )


@pytest.mark.parametrize(
    ("targeting", "changes", "why"),
    [
        ({"fractional": [["candidate", 5], ["baseline", 90], ["other", 5]]}, {}, "splits more than"),
        ({"fractional": [["other", 5], ["baseline", 95]]}, {}, "no fractional"),
        ({"fractional": [["candidate", 5, 5], ["baseline", 95]]}, {}, "no fractional"),
        ({"if": [IS_STAFF, "candidate", "baseline"]}, {}, "no fractional"),
        ({"fractional": [["candidate", 5], ["baseline", 95]]}, {"state": "DISABLED"}, "state is 'DISABLED'"),
    ],
)
def test_set_share_refuses_what_it_cannot_do_exactly(targeting, changes, why):
    with pytest.raises(ActuatorError, match=why):
        rules.shared(flag(targeting, **changes), "baseline", "candidate", 0.2)


# --- rules against the real evaluator -----------------------------------------------------------------------------

NAMES = st.sampled_from(["baseline", "candidate", "other", "cand", "idate", "", None, True, 5])
CONDITIONS = st.sampled_from(
    [IS_STAFF, {"var": "email"}, {"$ref": "staff"}, True, {"in": ["a", {"var": "email"}]}, "candidate"]
)
WEIGHTS = st.sampled_from([0, 1, 5, 50, 95, 100, -1, 2.5, {"+": [2, 3]}])
PAIRS = st.one_of(
    st.tuples(NAMES, WEIGHTS).map(list),
    st.tuples(st.sampled_from(["baseline", "candidate"]), st.integers(0, 100)).map(list),
    NAMES.map(lambda name: [name]),
    st.just([{"cat": ["cand", "idate"]}, 50]),
    st.just([]),
)
FRACTIONALS = st.builds(
    lambda head, pairs: {"fractional": [*head, *pairs]},
    st.sampled_from([[], [BUCKET], [{"var": "email"}], ["constant"]]),
    st.lists(PAIRS, max_size=4),
)
LEAVES = st.one_of(
    NAMES,
    FRACTIONALS,
    st.sampled_from([{"var": "wish"}, {"cat": ["cand", "idate"]}, {"$ref": "split"}, {"$ref": "none"}, {}, ["other"]]),
)
TARGETINGS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda *branches: {"if": list(branches)}, CONDITIONS, inner, inner),
        st.builds(lambda *branches: {"if": list(branches)}, CONDITIONS, inner, CONDITIONS, inner),
        st.builds(lambda a, b: {"or": [a, b]}, inner, inner),
        st.builds(lambda a, b: {"and": [a, b]}, CONDITIONS, inner),
    ),
    max_leaves=6,
)
EVALUATORS = {"staff": IS_STAFF, "split": {"fractional": [BUCKET, ["candidate", 60], ["baseline", 40]]}}


@settings(max_examples=300, deadline=None)
@given(targeting=TARGETINGS, default=NAMES, state=st.sampled_from(["ENABLED", "ENABLED", "DISABLED"]))
def test_the_real_evaluator_never_gives_the_treatment_after_a_halt(targeting, default, state):
    core = pytest.importorskip("openfeature.contrib.tools.flagd.core", reason="openfeature-provider-flagd is missing")
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.exception import OpenFeatureError

    before = flag(targeting, state=state, defaultVariant=default)
    change = rules.halted(before, "baseline", frozenset({"candidate"}), EVALUATORS)
    engine = core.FlagdCore()
    engine.set_flags(json.dumps({"flags": {"f": change.flag}, "$evaluators": EVALUATORS}))
    for i in range(12):
        user = EvaluationContext(f"u{i}", {"tier": ("staff", "free")[i % 2], "email": f"a{i}", "wish": "candidate"})
        try:
            found = engine.resolve_string_value("f", "code default", user)
        except OpenFeatureError:  # a broken rule stays broken, it does not reach the treatment
            continue
        assert found.variant in ("baseline", "other", "true")
        assert found.value != "c"


@pytest.mark.parametrize(
    "document",
    [
        {"flags": {"f": flag()}},
        {"flags": {}},
        {"flags": {"f": flag(state="on")}},
        {"flags": {"f": flag(state=None)}},
        {"flags": {"f": flag(variants={})}},
        {"flags": {"f": flag(variants=["a"])}},
        {"flags": {"f": flag(defaultVariant=3)}},
        {"flags": {"f": flag(defaultVariant=0)}},
        {"flags": {"f": flag(defaultVariant=True)}},
        {"flags": {"f": flag(description="unknown key")}},
        {"flags": {"f": flag(source="known key")}},
        {"flags": {"f": flag(metadata={"a": [1]})}},
        {"flags": {"f": flag(metadata={"a": None})}},
        {"flags": {"f": flag(metadata={"": 1})}},
        {"flags": {"f": flag(metadata=[])}},
        {"flags": {"f": flag(metadata=["a"])}},
        {"flags": {"f": "text"}},
        {"flags": {"f": flag()}, "metadata": {"a": {}}},
        {"flags": {"f": flag()}, "metadata": None},
        {"flags": {"f": flag()}, "metadata": {"a": True, "b": 1.5}},
        {"flags": {"f": flag()}, "$evaluators": ["a"]},
        {"flags": {"f": flag()}, "$evaluators": None},
    ],
)
def test_files_that_the_client_refuses_are_known(document):
    model = pytest.importorskip("openfeature.contrib.tools.flagd.core.model", reason="provider-flagd is missing")
    try:
        model.FlagStore().update(json.loads(json.dumps(document)))
        accepted = True
    except Exception:
        accepted = False
    assert (rules.refusal(document) is None) == accepted


# --- text: everything else stays as it was ------------------------------------------------------------------------

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)
LAYOUTS = st.sampled_from([None, 1, 2, 4, "\t", "compact"])


def dump(value, layout, ascii_only=True):
    separators = (",", ":") if layout == "compact" else None
    indent = None if layout == "compact" else layout
    return json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii_only)


def end_of_member(text, start):
    decode = json.JSONDecoder().raw_decode
    _, colon = decode(text, start)
    return decode(text, text.index("{", colon))[1]


@settings(max_examples=200, deadline=None)
@given(old=JSON, new=JSON, layout=LAYOUTS, ascii_only=st.booleans(), newline=st.sampled_from(["\n", "\r\n"]))
def test_a_patched_text_parses_to_the_new_value(old, new, layout, ascii_only, newline):
    text = dump(old, layout, ascii_only).replace("\n", newline)
    assert json.dumps(json.loads(patch(text, new)), sort_keys=True) == json.dumps(new, sort_keys=True)
    assert patch(text, old) == text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    others=st.dictionaries(st.text().filter(lambda k: k != "support-model"), JSON, max_size=4),
    top=st.dictionaries(st.text().filter(lambda k: k not in ("flags", "$evaluators")), JSON, max_size=3),
    metadata=st.dictionaries(st.text().filter(lambda k: not k.startswith("abtest.")), st.integers(), max_size=2),
    targeting=TARGETINGS,
    layout=LAYOUTS,
    place=st.integers(0, 4),
)
def test_a_halt_leaves_everything_else_alone(path, others, top, metadata, targeting, layout, place):
    mine = flag(targeting, metadata=metadata)
    entries = list(others.items())
    entries.insert(place, ("support-model", mine))
    text = dump(top | {"flags": dict(entries)}, layout, ascii_only=True)
    path.write_text(text, encoding="utf-8")
    FlagdFile(path, "support-model").halt(HALT)
    after = path.read_text(encoding="utf-8")
    document = json.loads(after)
    new = document["flags"].pop("support-model")
    assert list(json.loads(after)["flags"]) == [key for key, _ in entries]
    assert json.dumps(document) == json.dumps(top | {"flags": others})
    assert {k: v for k, v in new["metadata"].items() if not k.startswith("abtest.")} == metadata
    assert (new["variants"], new["state"]) == (mine["variants"], "ENABLED")
    # Not only the values: what stands before and behind the flag is the same, character for character.
    start = text.index('"support-model"')
    assert after[:start] == text[:start]
    behind = [whole[end_of_member(whole, start) :] for whole in (text, after)]
    assert behind[0] == behind[1]


def test_only_the_lines_that_change_change(path):
    outcome = FlagdFile(path, "support-model").halt(HALT)
    assert outcome.action.status == "done"
    assert outcome.action.detail == f"'support-model' in {path}: candidate set to weight 0 in 2 fractional"
    before, after = TEXT.splitlines(), path.read_text(encoding="utf-8").splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert [a.strip() for a, _ in changed] == [
        '{"fractional": [["candidate"], ["baseline"]]},',
        '["candidate", 5],',
        '["baseline", 95]',
        '"metadata": {"owner": "Zoë"}',
    ]
    assert changed[1][1].strip() == '["candidate", 0],'
    assert changed[3][1].strip().startswith('"metadata": {"owner": "Zoë", "abtest.decision_id": "decision-1", ')
    assert "\n" not in path.read_text(encoding="utf-8")[-1:]


@pytest.mark.parametrize(
    ("text", "new", "expected"),
    [
        ('{"a": 1, "b": 2}', {"a": 1, "b": 3}, '{"a": 1, "b": 3}'),
        ('{"a":1,"b":2}', {"b": 2, "c": [1, 2]}, '{"b":2,"c":[1,2]}'),
        ('{"a": 1, "b": 2}', {"a": 1}, '{"a": 1}'),
        ('{\n\t"a": 1\n}\n', {"a": 1, "b": {"c": 2}}, '{\n\t"a": 1,\n\t"b": {\n\t\t"c": 2\n\t}\n}\n'),
        ('{\r\n  "a": 1\r\n}', {"a": 1, "b": 2}, '{\r\n  "a": 1,\r\n  "b": 2\r\n}'),
        ('{"a": 1.50, "é": [1, 2]}', {"a": 1.5, "é": [1, "ü"]}, '{"a": 1.50, "é": [1, "ü"]}'),
        ('{"a": 1.50, "b": ""}', {"a": 1.5, "b": "ü"}, '{"a": 1.50, "b": "\\u00fc"}'),
        ('{"a": false}', {"a": 0}, '{"a": 0}'),
        ('{"a": 1, "a": 2}', {"a": 3}, '{"a": 1, "a": 3}'),
        ('{"a": 1, "b": 1, "a": 2}', {"b": 1}, '{"b": 1}'),
    ],
)
def test_patch(text, new, expected):
    assert patch(text, new) == expected


# --- the file -----------------------------------------------------------------------------------------------------


def test_halt_says_what_it_replaced_and_who_decided(path):
    write(path, {"if": [IS_STAFF, "candidate", None]}, metadata={"owner": "me"})
    original = read(path)
    outcome = FlagdFile(path, "support-model").halt(HALT)
    assert outcome.original == {k: original[k] for k in ("state", "defaultVariant", "targeting", "metadata")}
    assert "targeting removed" in outcome.action.detail
    assert read(path)["metadata"] == {
        "owner": "me",
        "abtest.decision_id": "decision-1",
        "abtest.policy_sha256": "policy-1",
        "abtest.experiment": "swap",
    }
    json.dumps(outcome.to_dict())


def test_the_same_decision_acts_once(path):
    actuator = FlagdFile(path, "support-model")
    actuator.halt(HALT)
    before = untouched(path)
    again = actuator.halt(HALT)
    assert (again.action.status, again.original) == ("already_done", None)
    assert untouched(path) == before
    other = HaltRequest("swap", 1, "decision-2", "policy-1", "baseline", ("candidate",))
    assert actuator.halt(other).action.status == "done"
    assert read(path)["metadata"]["abtest.decision_id"] == "decision-2"


def test_dry_run_touches_nothing(path):
    actuator = FlagdFile(path, "support-model")
    before = untouched(path)
    outcome = actuator.halt(HALT, dry_run=True)
    assert outcome.action.status == "dry_run"
    assert outcome.original == {k: read(path)[k] for k in ("state", "defaultVariant", "targeting", "metadata")}
    assert "would change 'support-model'" in outcome.action.detail
    share = ShareRequest("swap", 1, "d", "p", "baseline", ("candidate",), 0.2)
    assert actuator.set_share(share, dry_run=True).action.status == "dry_run"
    assert untouched(path) == before
    assert folder_listing(path) == ["flags.json"]


def test_set_share_then_halt_with_mapped_variants(path):
    variants = {"old": "baseline", "new": "candidate"}
    actuator = FlagdFile(path, "support-model", variants)
    assert actuator.check(["old", "new"]) == ()
    share = ShareRequest("swap", 1, "d", "p", "old", ("new",), 0.2)
    assert actuator.set_share(share).action.status == "done"
    assert actuator.set_share(share).action.status == "already_done"
    assert read(path)["targeting"]["if"][1] == {"fractional": [["candidate", 20], ["baseline", 80]]}
    assert actuator.halt(HaltRequest("swap", 1, "d2", "p", "old", ("new",))).action.status == "done"
    assert read(path)["targeting"]["if"][1] == {"fractional": [["candidate", 0], ["baseline", 100]]}


@pytest.mark.parametrize("age", [0, 3600, -3600, -400_000_000, -1e-6])
def test_the_mtime_always_moves_up(path, age):
    old = time.time() - age
    os.utime(path, (old, old))
    before = path.stat().st_mtime
    outcome = FlagdFile(path, "support-model").halt(HALT)
    assert path.stat().st_mtime > before
    assert path.stat().st_mtime - max(before, time.time()) < 1
    assert ("lies in the future" in outcome.action.detail) == (age < -1)


def test_a_coarse_clock_gets_a_larger_step(path, monkeypatch):
    real = os.utime

    def whole_seconds(target, ns):
        real(target, ns=(ns[0], ns[1] // 2_000_000_000 * 2_000_000_000))

    future = (int(time.time()) + 1000) // 2 * 2
    os.utime(path, (future, future))
    monkeypatch.setattr(os, "utime", whole_seconds)
    FlagdFile(path, "support-model").halt(HALT)
    assert path.stat().st_mtime == future + 2


def test_a_file_system_that_keeps_no_mtime_is_an_error(path, monkeypatch):
    future = time.time() + 1000
    os.utime(path, (future, future))
    before = path.read_bytes()
    monkeypatch.setattr(os, "utime", lambda *_, **__: None)
    with pytest.raises(ActuatorError, match="does not keep a later mtime"):
        FlagdFile(path, "support-model").halt(HALT)
    assert path.read_bytes() == before
    assert folder_listing(path) == ["flags.json"]


def test_mode_and_symlink_survive(tmp_path, path):
    path.chmod(0o640)
    link = tmp_path / "links" / "current.json"
    link.parent.mkdir()
    link.symlink_to("../flags.json")
    FlagdFile(link, "support-model").halt(HALT)
    assert link.is_symlink()
    assert folder_listing(link) == ["current.json"]
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert read(path)["metadata"]["abtest.experiment"] == "swap"


def test_a_foreign_edit_between_read_and_replace_is_kept(path, monkeypatch):
    real, edits = flagd._set_later_mtime, []

    def edit_once(handle, old):
        if not edits:
            edits.append(1)
            path.write_text(TEXT.replace('"odd": 1.50', '"odd": 7'), encoding="utf-8")
        real(handle, old)

    monkeypatch.setattr(flagd, "_set_later_mtime", edit_once)
    assert FlagdFile(path, "support-model").halt(HALT).action.status == "done"
    assert json.loads(path.read_text(encoding="utf-8"))["metadata"]["odd"] == 7
    assert read(path)["metadata"]["abtest.decision_id"] == "decision-1"
    assert folder_listing(path) == ["flags.json"]


@pytest.mark.parametrize("how", ["edit", "delete", "touch"])
def test_a_file_that_never_rests_is_an_error(path, monkeypatch, how):
    real, edits = flagd._set_later_mtime, []

    def edit_always(handle, old):
        edits.append(1)
        if how == "edit":
            path.write_text(TEXT.replace("1.50", str(len(edits))), encoding="utf-8")
        elif how == "touch":
            os.utime(path, (time.time() + len(edits),) * 2)
        else:
            path.unlink()
        real(handle, old)

    monkeypatch.setattr(flagd, "_set_later_mtime", edit_always)
    monkeypatch.setattr(flagd, "_PAUSE_SECONDS", 0)
    with pytest.raises(ActuatorError, match="no such file" if how == "delete" else "changed 5 times"):
        FlagdFile(path, "support-model").halt(HALT)
    assert folder_listing(path) == ([] if how == "delete" else ["flags.json"])


def test_an_overwrite_right_after_the_rename_is_seen(path, monkeypatch):
    real, calls = flagd._sync_folder, []

    def overwrite_once(folder):
        real(folder)
        if not calls:
            path.write_text(TEXT, encoding="utf-8")
        calls.append(1)

    monkeypatch.setattr(flagd, "_sync_folder", overwrite_once)
    assert FlagdFile(path, "support-model").halt(HALT).action.status == "done"
    assert len(calls) == 2
    assert read(path)["metadata"]["abtest.decision_id"] == "decision-1"


def test_a_folder_that_cannot_be_synced_is_no_failure(path, monkeypatch):
    def refuse(_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(flagd, "_sync_folder", refuse)
    assert FlagdFile(path, "support-model").halt(HALT).action.status == "done"
    assert read(path)["metadata"]["abtest.decision_id"] == "decision-1"


def test_an_mtime_that_moves_back_after_the_rename_is_an_error(path, monkeypatch):
    monkeypatch.setattr(flagd, "_sync_folder", lambda _: os.utime(path, (1, 1)))
    with pytest.raises(ActuatorError, match="its mtime did not move up"):
        FlagdFile(path, "support-model").halt(HALT)


def test_a_file_that_is_being_written_gets_a_moment(path, monkeypatch):
    path.write_text(TEXT[:200], encoding="utf-8")
    monkeypatch.setattr(time, "sleep", lambda _: path.write_text(TEXT, encoding="utf-8"))
    assert FlagdFile(path, "support-model").halt(HALT).action.status == "done"


def test_a_crash_before_the_rename_leaves_the_old_file(path, monkeypatch):
    before = untouched(path)

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        FlagdFile(path, "support-model").halt(HALT)
    assert untouched(path) == before
    assert folder_listing(path) == ["flags.json"]


def test_other_flags_that_make_the_client_refuse_the_file_are_a_warning(path):
    path.write_text(TEXT.replace('"state": "DISABLED"', '"state": "off"'), encoding="utf-8")
    warning = "clients may refuse the file and keep their last good flags: flag 'after' has the state 'off'"
    assert FlagdFile(path, "support-model").check(["baseline", "candidate"]) == (warning,)
    assert warning in FlagdFile(path, "support-model").halt(HALT).action.detail


def test_check_warns_of_a_disabled_flag(path):
    write(path, state="DISABLED")
    assert FlagdFile(path, "support-model").check() == (
        "flag 'support-model' is DISABLED: every caller gets its own code default",
    )
    share = ShareRequest("swap", 1, "d", "p", "baseline", ("candidate",), 0.2)
    with pytest.raises(ActuatorError, match="set it to ENABLED first"):
        FlagdFile(path, "support-model").set_share(share)
    assert FlagdFile(path, "support-model").halt(HALT).original["state"] == "DISABLED"
    assert read(path)["state"] == "ENABLED"


# --- what cannot be done ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "key", "message", "hint"),
    [
        (None, "support-model", "no such file", "did you mean 'flag.json'?"),
        (TEXT[:-30], "support-model", "is not JSON: ", "clients keep the last good flags"),
        (TEXT.replace("1.50}", "1.50,}"), "support-model", "line 3 column", "repaired"),
        ("", "support-model", "is not JSON: Expecting value, line 1 column 1", "repaired"),
        ("\ufeff" + TEXT, "support-model", "is not JSON: Unexpected UTF-8 BOM", "repaired"),
        (b"\xff\xfe", "support-model", "is not JSON: 'utf-8' codec", "repaired"),
        ("[" * 100_000, "support-model", "is not JSON", "repaired"),
        ("[]", "support-model", 'has no "flags" object', '{"flags": '),
        ('{"flag": {}}', "support-model", 'has no "flags" object', '{"flags": '),
        ('{"flags": [{"key": "support-model"}]}', "support-model", 'has no "flags" object', '{"flags": '),
        ('{"flags": {}}', "support-model", "no such flag", "the file has no flags"),
        (TEXT, "suport-model", "no such flag", "did you mean 'support-model'?"),
        ('{"flags": {"support-model": []}}', "support-model", "has no variants", '"variants": {'),
        ('{"flags": {"support-model": {"variants": []}}}', "support-model", "has no variants", '"variants": {'),
        (TEXT.replace('"baseline":', '"basline":'), "support-model", "has no variant 'baseline'", "'basline'"),
        (TEXT.replace('"candidate":', '"zzz":'), "support-model", "no variant 'candidate' for arm", "variants = {"),
    ],
)
def test_errors_name_file_key_and_what_to_do(tmp_path, content, key, message, hint):
    file = tmp_path / "flags.json"
    if content is None:
        (tmp_path / "flag.json").write_text("{}")
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for act in (lambda f: f.halt(HALT), lambda f: f.check(["baseline", "candidate"])):
        with pytest.raises(ActuatorError) as caught:
            act(FlagdFile(file, key))
        error = caught.value
        assert message in error.message
        assert hint in error.hint
        assert error.file == str(file)
        assert error.key in (key, "flags")
        assert "\n" not in str(error)
    if content is not None:
        assert file.read_bytes() == (content if isinstance(content, bytes) else content.encode())
        assert folder_listing(file) == ["flags.json"]


def test_a_folder_a_yaml_file_and_a_lonely_path(tmp_path):
    for name, message in (("flags.yaml", "is YAML"), ("flags.yml", "is YAML"), ("none.json", "no such file")):
        with pytest.raises(ActuatorError, match=message) as caught:
            FlagdFile(tmp_path / name, "k").check()
        assert caught.value.hint
    with pytest.raises(ActuatorError, match="is a folder"):
        FlagdFile(tmp_path, "k").check()
    with pytest.raises(ActuatorError, match="no such file"):
        FlagdFile(tmp_path / "missing" / "flags.json", "k").check()
    (tmp_path / "file").touch()
    with pytest.raises(ActuatorError, match="cannot be read: Not a directory"):
        FlagdFile(tmp_path / "file" / "flags.json", "k").check()


def test_arms_that_share_a_variant(path):
    with pytest.raises(ActuatorError, match="same variant 'baseline'"):
        FlagdFile(path, "support-model", {"candidate": "baseline"}).halt(HALT)


def test_a_share_is_for_one_treatment(path):
    request = ShareRequest("swap", 1, "d", "p", "baseline", ("candidate", "other"), 0.2)
    with pytest.raises(ActuatorError, match="for one treatment, not for 2") as caught:
        FlagdFile(path, "support-model").set_share(request)
    assert (caught.value.file, caught.value.key) == (str(path), "support-model")


@pytest.mark.parametrize(("number", "hint"), [(13, "mount the folder"), (16, "mount the folder"), (28, "disk")])
def test_a_file_that_cannot_be_replaced(path, monkeypatch, number, hint):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    before = untouched(path)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ActuatorError) as caught:
        FlagdFile(path, "support-model").halt(HALT)
    assert hint in caught.value.hint
    assert untouched(path) == before
    assert folder_listing(path) == ["flags.json"]


def test_a_read_only_folder(path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(flagd.tempfile, "mkstemp", refuse)
    monkeypatch.setattr(os, "access", lambda *_: False)
    for act in (lambda f: f.halt(HALT), lambda f: f.check()):
        with pytest.raises(ActuatorError, match="no new file can be written into") as caught:
            act(FlagdFile(path, "support-model"))
        assert "folder must be writable" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_folder_that_is_really_read_only(path):
    path.parent.chmod(0o555)
    try:
        for act in (lambda f: f.halt(HALT), lambda f: f.check()):
            with pytest.raises(ActuatorError, match="no new file can be written into"):
                act(FlagdFile(path, "support-model"))
    finally:
        path.parent.chmod(0o755)


def test_rules_that_are_too_deep_to_follow(path):
    deep = '{"if": [true, ' * 400 + '"baseline"' + "]}" * 400
    path.write_text(TEXT.replace('{"fractional": [["candidate"], ["baseline"]]}', deep), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(ActuatorError, match="nested too deeply"):
        FlagdFile(path, "support-model").halt(HALT)
    assert path.read_bytes() == before
