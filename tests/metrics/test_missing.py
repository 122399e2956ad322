"""What a metric says about rows that cannot tell."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.metrics.base import MetricSpec
from abtest.metrics.missing import missing_gap_note, missing_note, unseen_note
from abtest.spec import Experiment


def metric(**keys: Any) -> MetricSpec:
    base = {"id": "e", "control": "a", "treatments": ["b"]}
    prices = (
        {"model": [{"name": "m", "since": "2026-01-01", "input": 1, "output": 1}]} if keys.pop("priced", False) else {}
    )
    return Experiment.from_dict(
        {**base, "prices": prices, "metrics": [{"better": "lower", "name": "m", **keys}]}
    ).metrics[0]


REFUSED = {"kind": "proportion", "event": "refused"}
KINDS: list[dict[str, Any]] = [
    REFUSED,
    {**REFUSED, "per": "unit"},
    {"kind": "proportion", "score": "parse_ok"},
    {"kind": "mean", "value": "latency_ms", "per": "call"},
    {"kind": "mean", "score": "helpfulness"},
    {"kind": "mean", "value": "cost", "priced": True},
    {"kind": "ratio", "numerator": "cost_usd", "denominator": "output_tokens"},
    {"kind": "quantile", "value": "ttft_ms", "q": 0.99},
    {"kind": "count", "event": "refused"},
    {"kind": "count"},
]


@pytest.mark.parametrize(
    ("keys", "known", "total", "note"),
    [
        (REFUSED, 100, 100, None),
        (REFUSED, 0, 0, None),
        (REFUSED, 96, 100, None),
        (REFUSED, 95, 100, "95 of 100 requests can tell (5 % cannot: refused is NULL)"),
        (REFUSED, 50, 100, "only 50 of 100 requests can tell (50 % cannot: refused is NULL); the result speaks for those alone"),
        (REFUSED, 0, 100, "none of 100 requests can tell: refused is NULL in every one"),
        (REFUSED, 1, 10_000, "only 1 of 10,000 requests can tell (over 99.9 % cannot: refused is NULL); the result speaks for those alone"),
        ({**REFUSED, "per": "unit"}, 1, 4, "only 1 of 4 requests can tell (75 % cannot: refused is NULL); units without a row that can tell are left out"),
        ({**REFUSED, "per": "call"}, 1, 4, "only 1 of 4 calls can tell (75 % cannot: refused is NULL); the result speaks for those alone"),
        (KINDS[2], 999, 1000, "999 of 1,000 requests (99.9 %) have the score parse_ok"),
        (KINDS[4], 0, 10, "none of 10 requests can tell: there is no score helpfulness in every one"),
        (KINDS[4], 12, 1000, "12 of 1,000 requests (1.2 %) have the score helpfulness"),
        (KINDS[5], 80, 100, "80 of 100 requests can tell (20 % cannot: the cost is neither logged nor determined by the price book)"),
        ({"kind": "mean", "value": "cost"}, 80, 100, "80 of 100 requests can tell (20 % cannot: cost_usd is NULL)"),
        (KINDS[6], 10, 100, ("only 10 of 100 requests can tell (90 % cannot: what is made of cost_usd, output_tokens is NULL); "
                             "the others add neither to the numerator nor to the denominator")),
        (KINDS[7], 10, 100, "only 10 of 100 requests can tell (90 % cannot: ttft_ms is NULL); calls that never ended may be the slowest, and they are left out"),
        (KINDS[8], 10, 100, "only 10 of 100 requests can tell (90 % cannot: refused is NULL); the others count as rows without the event"),
        ({"kind": "proportion", "score": "thumbs_down", "absent": "no"}, 3, 1000, None),
    ],
)  # fmt: skip
def test_the_note(keys: dict[str, Any], known: int, total: int, note: str | None) -> None:
    assert missing_note(metric(**keys), known, total) == note


@pytest.mark.parametrize("keys", KINDS, ids=lambda k: "-".join(map(str, k.values())))
def test_mostly_missing_is_always_said(keys: dict[str, Any]) -> None:
    spec = metric(**keys)
    assert missing_note(spec, 100, 100) is None
    for known in (0, 1, 49):
        note = missing_note(spec, known, 100)
        assert note
        assert "100" in note


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_any_counts_have_an_answer(a: int, b: int) -> None:
    known, total = sorted((a, b))
    note = missing_note(metric(**REFUSED), known, total)
    assert (note is None) == (total == 0 or 1 - known / total < 0.05)
    if note and known:
        assert "(100 %" not in note


@pytest.mark.parametrize(("known", "total"), [(-1, 5), (6, 5), (0, -1)])
def test_impossible_counts_are_refused(known: int, total: int) -> None:
    with pytest.raises(InvalidInputError):
        missing_note(metric(**REFUSED), known, total)
    with pytest.raises(InvalidInputError):
        missing_gap_note(metric(**REFUSED), (1, 1), (known, total))


@pytest.mark.parametrize(
    ("control", "treatment", "warns"),
    [
        ((1000, 1000), (700, 1000), True),
        ((700, 1000), (1000, 1000), True),
        ((700, 1000), (700, 1000), False),
        ((960, 1000), (1000, 1000), False),  # under five points
        ((10, 10), (8, 10), False),  # may be chance
        ((0, 0), (5, 10), False),
        ((0, 1000), (1000, 1000), True),
    ],
)
def test_one_arm_that_tells_less(control: tuple[int, int], treatment: tuple[int, int], warns: bool) -> None:
    assert (missing_gap_note(metric(**REFUSED), control, treatment) is not None) == warns
    clicks = metric(kind="proportion", score="thumbs_down", absent="no")
    assert missing_gap_note(clicks, control, treatment) is None


def test_clicks_that_nobody_ever_logged_are_no_pass() -> None:
    clicks = metric(kind="proportion", score="thumbs_down", absent="no")
    assert unseen_note(clicks, 0) == "no request has the score thumbs_down: it never happened, or it is not logged"
    assert unseen_note(clicks, 1) is None
    # Where every row says so itself, zero events are an answer.
    assert unseen_note(metric(**REFUSED), 0) is None
    assert unseen_note(metric(kind="proportion", score="parse_ok"), 0) is None
