"""Any order and any split of the loads ends in the same calls: those of the definition in plain Python."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from governance_tools import calls, empty, members, merged, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_rules import SOURCES, by_definition, mirrored, put, row

from abtest.store import legs, twins


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[dict[str, Any]], int]:
    """Rows that meet often: few ids, few minutes."""
    rng = random.Random(draw(st.integers(0, 10**9)))
    count = draw(st.sampled_from([3, 8, 16, 24]))
    ids = draw(st.sampled_from([1, 2, 4, 8]))
    minutes = draw(st.sampled_from([1, 12, 40]))
    some = rng.choice
    sources = draw(st.sampled_from([SOURCES, ("litellm",), ("openinference",), ("litellm", "otel")]))
    asked = {
        "u": [None, "u"],
        "e": [None, "e", "e", "f"],
        "v": [None, None, "x", "y"],
        "rq": [None, "rq"],
        "ask": [None, "h1", "h2"],
    }
    traces = [None, "t1", "t2"]
    if draw(st.booleans()):  # attempts and mirrors of one request
        asked = {name: [some(values)] for name, values in asked.items()} | {"ask": ["h1"]}
        sources, traces = ("litellm", "litellm", "otel"), ["t1"]
    return [
        row(
            f"i{k:02}", some(sources), rng.randrange(minutes * 2) * 30, t=some(traces),
            s=some([None, *(f"s{j}" for j in range(ids))]), p=some([None, *(f"p{j}" for j in range(ids))]),
            cache=some([None, None, False, True]), lat=some([None, 10_000, 31_000, 31_000, 70_000, 200_000]),
            at=some([None, '{"a":1}', '{"b":2}']), group=some(["main", "main", "shadow", "fb", None]),
            kind=some(["completion", "acompletion", "acompletion", "acompletion"]), fell=some([None, None, None, 1]),
            seen=some([True, True, True, False]), **{name: some(values) for name, values in asked.items()},
        )
        for k in range(count)
    ], rng.randrange(10**9)  # fmt: skip


@pytest.mark.parametrize(("part", "crowd"), [(twins.PART_ROWS, legs.CROWD), (3, 4)])
@settings(max_examples=12)
@given(history=histories())
def test_any_order_and_any_split_ends_in_the_same_calls(
    part: int, crowd: int, history: tuple[list[dict[str, Any]], int]
) -> None:
    given_rows, seed = history
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(legs, "CROWD", crowd)
        patch.setattr(twins, "PART_ROWS", part)  # a large load is searched in parts; the end is the same
        in_any_order(given_rows, seed)


def in_any_order(given_rows: list[dict[str, Any]], seed: int) -> None:
    expected, conflicts = by_definition(given_rows)
    silent = mirrored(given_rows)
    rng = random.Random(seed)
    rowsets = []
    for _ in range(2):
        con = empty()
        order = rng.sample(given_rows, len(given_rows))
        cuts = sorted(rng.randrange(len(order) + 1) for _ in range(rng.choice([0, 1, 4])))
        seen, saved, hidden, so_far = [], 0, 0, []
        for file_id, (a, b) in enumerate(itertools.pairwise([0, *cuts, len(order)]), start=1):
            found = put(con, order[a:b], file_id)
            saved, hidden = saved + found.twins, hidden + found.legs
            so_far += order[a:b]
            assert members(con) == by_definition(so_far)[0]
            seen.append((members(con), merged(con), calls(con)))
        assert members(con) == expected
        assert set(rows(con, "SELECT * FROM twin_conflict")) == conflicts
        assert saved == sum(len(ids) - 1 for _, ids in expected)
        assert hidden == len(silent)
        by_id = {r["id"]: r for r in given_rows}
        for call_id, ids in expected:
            (whole,) = [r for r in merged(con) if r["interaction_id"] == call_id]
            assert whole["exposed"] == all(by_id[x]["seen"] and x not in silent for x in ids)
            if shared := sorted(silent[x] for x in ids if x in silent):
                assert whole["request_id"] == shared[0]
        assert sorted(r["interaction_id"] for r in merged(con)) == sorted(name for name, _ in expected)
        # A replay sees exactly what was known after each load.
        for file_id, state in enumerate(seen, start=1):
            assert (members(con, file_id), merged(con, file_id), calls(con, file_id)) == state
        rowsets.append(merged(con))
        con.close()
    assert rowsets[0] == rowsets[1]
