"""Labels: the house names in metadata and tags."""

from __future__ import annotations

from typing import Any

import pytest

from abtest.ingest.labels import LIMIT, TAGS, context, label, rest, scorer_kind, snake


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("promptVersion", "prompt_version"),
        ("experimentID", "experiment_id"),
        ("variant", "variant"),
        ("LANGSMITH_PROJECT", "LANGSMITH_PROJECT"),
        ("my.ownKey", "my.ownKey"),
        ("", ""),
    ],
)
def test_snake(name: str, expected: str) -> None:
    assert snake(name) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        ('"a"', "a"),
        (7, "7"),
        (1.5, "1.5"),
        (True, None),
        ("", None),
        ('""', None),
        ("x" * (LIMIT + 1), None),
        (float("nan"), None),
        (10**30, None),
        ([], None),
        ({"a": 1}, None),
    ],
)
def test_label(value: Any, expected: str | None) -> None:
    assert label(value) == expected


@pytest.mark.parametrize(
    ("metadata", "tags", "variant"),
    [
        ({"variant": "a", "abtest.variant": "b"}, ["variant:c"], "b"),
        ({"variant": "a", "abtest_variant": "b"}, [], "b"),
        ({"feature_flag.result.variant": "a", "variant": "b"}, [], "b"),
        ({"feature_flag.result.variant": "a"}, ["abtest.variant:b"], "b"),
        ({"variant": ""}, ["variant:b"], "b"),
        ({"variant": {"name": "a"}}, ["variant=b"], "b"),
        ({"abtest": '{"variant":"b"}'}, [], "b"),
        ({"abtest": {"variant": "a"}, "abtest.variant": "b"}, [], "b"),
        ({"Variant": "b"}, [], "b"),
        ({}, ["variant:b", "variant:c"], "b"),
        ({}, ["my variant:b", "variants:b", "variant:", ":b", 5, None], None),
    ],
)
def test_variant(metadata: dict[str, Any], tags: list[Any], variant: str | None) -> None:
    assert context(metadata, tags).get("variant") == variant


def test_what_is_left_is_plain_and_the_users_own() -> None:
    metadata = {
        "tier": "gold",
        "n": 3,
        "share": 0.5,
        "beta": True,
        "quoted": '"x"',
        "variant": "b",
        "userId": "u",
        "ls_model": "junk",
        "long": "x" * (LIMIT + 1),
        "nested": {"a": 1},
        "text": '{"a":1}',
        "nan": float("nan"),
        "huge": 2**70,
        "none": None,
        "": "no name",
    }
    assert rest(metadata, ["variant:b", "team-a", 7], ("ls_",)) == {
        "tier": "gold",
        "n": 3,
        "share": 0.5,
        "beta": True,
        "quoted": "x",
        "tags": ["team-a"],
    }
    assert len(rest({}, [f"t{i}" for i in range(1000)])["tags"]) == TAGS
    assert rest({"tags": "mine"}, ["team-a"]) == {"tags": "mine"}


@pytest.mark.parametrize(
    ("name", "declared", "kind"),
    [
        ("user_feedback", None, "user"),
        ("userRating", None, "user"),
        ("human-grade", None, "human"),
        ("judge.helpfulness", None, "judge"),
        ("llm_as_judge", None, "judge"),
        ("helpfulness", None, "code"),
        ("username_ok", None, "code"),
        (None, None, "code"),
        ("user_feedback", "human", "human"),
        ("user_feedback", "robot", "user"),
        ("user_feedback", ["human"], "user"),
    ],
)
def test_scorer_kind(name: str | None, declared: Any, kind: str) -> None:
    assert scorer_kind(name, declared) == kind
