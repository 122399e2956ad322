"""The price book: hand-computed costs, days that begin and end, what is not known, what is no book."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import SpecError
from abtest.metrics.base import MONEY_SCALE
from abtest.metrics.expressions import COLUMNS, parse
from abtest.metrics.prices import Price, Prices, cost_tree, parse_book
from abtest.spec import Experiment
from tests.metrics.price_samples import BOOK

TYPES = {"text": "VARCHAR", "json": "VARCHAR", "number": "DOUBLE", "boolean": "BOOLEAN"}
COUNTS = {"input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "ts_us"}


def book(**more: Any) -> Prices:
    return Prices.model_validate({"model": parse_book(BOOK, "prices.toml"), **more})


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def cost(prices: Prices, **row: Any) -> float | None:
    """Return what the expression gives for one call, in DuckDB, with the types of the store."""
    expression = parse("cost", key="k", want="number", derived={"cost": cost_tree(prices)})
    row = {"model": "big", "provider": "openai", "ts_us": us("2026-02-01"), **row}
    columns = ", ".join(
        f'CAST(? AS {"BIGINT" if n in COUNTS else TYPES[COLUMNS[n]]}) AS "{n}"' for n in sorted(expression.columns)
    )
    values = [row.get(n) for n in sorted(expression.columns)]
    found = duckdb.execute(f"SELECT {expression.sql('c')} FROM (SELECT {columns}) c", values).fetchone()
    assert found is not None
    return found[0]


CALL = {"input_tokens": 1200, "cached_input_tokens": 1000, "output_tokens": 300}


@pytest.mark.parametrize(
    ("row", "dollars"),
    [
        # 200 x 2.50 + 1000 x 1.25 + 300 x 10 = 500 + 1250 + 3000 = 4750 millionths
        ({}, 0.004750),
        # nothing cached: 1200 x 2.50 + 300 x 10 = 6000
        ({"cached_input_tokens": 0}, 0.006000),
        # everything cached: 1200 x 1.25 + 3000 = 4500
        ({"cached_input_tokens": 1200}, 0.004500),
        # the next price: 200 x 2 + 1000 x 0.5 + 300 x 8 = 400 + 500 + 2400
        ({"ts_us": us("2026-06-01")}, 0.003300),
        ({"ts_us": us("2026-06-01") - 1}, 0.004750),
        ({"ts_us": us("2026-01-01")}, 0.004750),
        ({"ts_us": us("2027-12-31")}, 0.003300),
        # another provider: 1200 x 3 + 300 x 12; how many were cached does not matter there
        ({"provider": "azure"}, 0.007200),
        ({"provider": None}, 0.007200),
        ({"provider": "azure", "cached_input_tokens": None}, 0.007200),
        # what answered counts before what was asked for; without a price it is what was asked for
        ({"model": "plain", "model_version": "big"}, 0.004750),
        ({"model": "big", "model_version": "big-2026-02"}, 0.004750),
        # thinker: 200 x 1 + 1000 x 0.0375 + (300 - 100) x 4 + 100 x 6 = 200 + 37.5 + 800 + 600
        ({"model": "thinker", "reasoning_tokens": 100}, 0.0016375),
        ({"model": "thinker", "reasoning_tokens": 0}, 0.0014375),
        ({"model": "thinker", "reasoning_tokens": 300, "ts_us": us("2026-07-01") - 1}, 0.0020375),
        # no price for cached tokens, and none were: 1200 x 0.1 + 300 x 0.4
        ({"model": "plain", "cached_input_tokens": 0}, 0.000240),
        ({"input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}, 0.0),
        # logged cost wins over every price, also when it is zero
        ({"cost_usd": 0.5}, 0.5),
        ({"cost_usd": 0.0}, 0.0),
        ({"cost_usd": 0.5, "model": "unheard-of"}, 0.5),
        ({"cost_usd": 0.0, "cache_hit": True}, 0.0),
        ({"cache_hit": False}, 0.004750),
    ],
)
def test_costs_by_hand(row: dict[str, Any], dollars: float) -> None:
    assert cost(book(), **{**CALL, **row}) == pytest.approx(dollars, rel=1e-15, abs=1e-18)


@pytest.mark.parametrize(
    "row",
    [
        {"model": "unheard-of"},
        {"model": "BIG"},
        {"ts_us": us("2026-01-01") - 1},
        {"model": "thinker", "reasoning_tokens": 0, "ts_us": us("2026-07-01")},
        {"input_tokens": None},
        {"output_tokens": None},
        {"cached_input_tokens": None},
        {"cached_input_tokens": 1201},
        {"model": "thinker"},
        {"model": "thinker", "reasoning_tokens": 301},
        {"model": "plain", "cached_input_tokens": 1},
        {"model": "plain", "cached_input_tokens": None},
        {"cache_hit": True},
        # what answered is in the book, but has no price on that day: what was asked for is no substitute
        {"model": "big", "model_version": "thinker", "reasoning_tokens": 0, "ts_us": us("2026-07-01")},
    ],
    ids=str,
)
def test_what_is_not_determined_is_not_known(row: dict[str, Any]) -> None:
    assert cost(book(), **{**CALL, **row}) is None


def test_missing_counts_may_be_declared_zero() -> None:
    zero = book(missing_counts="zero")
    assert cost(zero, **{**CALL, "cached_input_tokens": None}) == pytest.approx(0.006)
    assert cost(zero, **{**CALL, "model": "plain", "cached_input_tokens": None}) == pytest.approx(0.00024)
    assert cost(zero, **{**CALL, "model": "thinker"}) == pytest.approx(0.0014375)
    assert cost(zero, **{**CALL, "input_tokens": None}) is None


def test_an_expired_price_does_not_wake_an_older_one() -> None:
    rows = [
        {"name": "m", "since": "2026-01-01", "input": 1, "output": 1},
        {"name": "m", "since": "2026-02-01", "until": "2026-03-01", "input": 2, "output": 2},
        {"name": "m", "since": "2026-04-01", "input": 3, "output": 3},
    ]
    prices = Prices.model_validate({"model": rows, "missing_counts": "zero"})
    call = {"model": "m", "input_tokens": 10**6, "output_tokens": 0}
    days = {
        "2026-01-31": 1.0,
        "2026-02-01": 2.0,
        "2026-02-28": 2.0,
        "2026-03-01": None,
        "2026-03-31": None,
        "2026-04-01": 3.0,
    }
    assert {day: cost(prices, ts_us=us(day), **call) for day in days} == pytest.approx(days)


def test_without_a_book_cost_is_what_was_logged() -> None:
    expression = parse("cost", key="k", want="number")
    assert expression.sql("c") == '("c"."cost_usd")'
    assert expression.columns == {"cost_usd"}
    assert parse("cost", key="k", derived={"cost": cost_tree(Prices())}).columns == {"cost_usd"}


@settings(max_examples=200)
@given(st.data())
def test_any_book_gives_what_decimal_arithmetic_gives(data: st.DataObject) -> None:
    """Against an oracle: the price that holds, looked up row by row, and exact decimals."""
    dollars = st.integers(0, 10**6).map(lambda n: n / 1000)
    day = st.integers(0, 60).map(lambda n: date(2026, 1, 1) + timedelta(days=n))
    price = st.builds(
        lambda name, provider, since, life, **p: {"name": name, "provider": provider, "since": since,
                                                  "until": life and since + timedelta(days=life), **p},
        st.sampled_from(["a", "b'"]), st.sampled_from([None, "p"]), day, st.none() | st.integers(1, 40),
        input=dollars, output=dollars, cached_input=st.none() | dollars, reasoning=st.none() | dollars,
    )  # fmt: skip
    rows = data.draw(st.lists(price, max_size=6, unique_by=lambda r: (r["provider"], r["name"], r["since"])))
    prices = Prices.model_validate({"model": rows})
    count = st.none() | st.integers(0, 10**9)
    call = {
        "model": data.draw(st.sampled_from(["a", "b'", "c"])), "model_version": data.draw(st.sampled_from([None, "a", "b'", "c"])),
        "provider": data.draw(st.sampled_from([None, "p", "q"])), "cost_usd": None, "cache_hit": None,
        **{name: data.draw(count) for name in COUNTS - {"ts_us"}},
    }  # fmt: skip
    at = data.draw(day)
    expected = _oracle(prices.model, call, at)
    found = cost(prices, ts_us=us(str(at)) + data.draw(st.integers(0, 86_400 * 10**6 - 1)), **call)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found == pytest.approx(float(expected), rel=1e-12, abs=1e-15)
        if expected < 1000:  # the fixed point of money: the same integer, unless it lies on an edge
            assert abs(found * MONEY_SCALE - float(expected * MONEY_SCALE)) < 0.01


def _oracle(rows: tuple[Price, ...], call: dict[str, Any], at: date) -> Decimal | None:
    name = call["model_version"] if any(r.name == call["model_version"] for r in rows) else call["model"]
    for wanted in (call["provider"], None):
        same = [r for r in rows if r.name == name and r.provider == wanted and r.since <= at]
        newest = max(same, key=lambda r: r.since, default=None)
        if newest and (newest.until is None or at < newest.until):
            return _amount(newest, call)
    return None


def _amount(row: Price, call: dict[str, Any]) -> Decimal | None:
    total = Decimal(0)
    for whole, part, price, part_price in (
        (call["input_tokens"], call["cached_input_tokens"], row.input, row.cached_input),
        (
            call["output_tokens"],
            call["reasoning_tokens"],
            row.output,
            row.output if row.reasoning is None else row.reasoning,
        ),
    ):
        if whole is None:
            return None
        count = 0 if part_price == price else part
        if count is None or count > whole or (count and part_price is None):
            return None
        total += (whole - count) * Decimal(str(price)) + count * Decimal(str(part_price or 0))
    return total / 10**6


def test_the_same_expression_in_spark_sql() -> None:
    """Nothing in it that another engine would read in another way: no function but COALESCE, doubles with an exponent."""
    sql = f"SELECT {parse('cost', key='k', derived={'cost': cost_tree(book())}).sql()}"
    spark = sqlglot.transpile(sql, read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)[0]
    assert spark.replace("`", '"') == sql


def test_quotes_in_names_stay_text() -> None:
    name = "x'; DROP TABLE interaction; --"
    prices = Prices.model_validate(
        {"model": [{"name": name, "since": "2026-01-01", "input": 1, "output": 1, "cached_input": 1}]}
    )
    assert cost(prices, model=name, input_tokens=10**6, output_tokens=0) == pytest.approx(1.0)


def test_a_large_book_is_read_and_written_soon() -> None:
    rows = [{"name": f"model-{i}", "since": "2026-01-01", "input": 1.0, "output": 2.0} for i in range(500)]
    began = time.monotonic()
    experiment = Experiment.from_dict(
        {
            "id": "x",
            "control": "a",
            "treatments": ["b"],
            "prices": {"model": rows},
            "metrics": [{"use": "cost_per_request"}],
        }
    )
    numerator = experiment.metrics[0].measure().numerator
    assert numerator is not None
    assert len(numerator.sql("c")) < 120_000
    assert time.monotonic() - began < 10
    with pytest.raises(SpecError, match="at most 500"):
        Experiment.from_dict(
            {
                "id": "x",
                "control": "a",
                "treatments": ["b"],
                "prices": {"model": [*rows, {**rows[0], "name": "z"}]},
                "metrics": [{"use": "error_rate"}],
            }
        )
