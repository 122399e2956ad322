"""Every query file keeps to the portable subset (DESIGN §4), as text and as what is sent to the engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import sqlglot
from query_samples import queries
from sqlglot import exp
from sqlglot.errors import ErrorLevel

from abtest.store.files import sql_root

FILES = sorted(sql_root().rglob("*.sql"))
BANNED = {
    "log": r"\blog(2|10)?\s*\(",
    "date_diff": r"\bdate_?diff\b",
    "epoch": r"\bepoch(_us|_ms|_ns)?\s*\(",
    "hugeint": r"\bu?hugeint\b|\bint128\b",
    "hash": r"\b(hash|md5_number\w*)\s*\(",
    "approximate": r"\bapprox_\w+",
    "anti join": r"\b(anti|semi|asof|positional)\s+join\b",
    "group by all": r"\b(group|order)\s+by\s+all\b",
    "lists": r"\b(list|array|unnest|list_\w+|array_\w+|string_agg|struct_pack|map)\s*\(|\[\s*\w",
    "any value": r"\b(any_value|first|last|arbitrary|arg_max|arg_min|max_by|min_by)\s*\(",
    "quantile": r"\b(percentile|quantile|median|mode)(_cont|_disc)?\s*\(",
    "average": r"\b(avg|mean|stddev\w*|var_\w+|variance|corr|covar_\w+)\s*\(",
    "qualify": r"\bqualify\b",
    "filter": r"\bfilter\s*\(",
    "now": r"\b(now|current_timestamp|current_date|random|uuid\w*)\b",
    "limit": r"\blimit\s+\d",
    "float cast": r"::",
}


def code(text: str) -> str:
    """Return SQL without comments and without what is in quotes."""
    return re.sub(r"--[^\n]*|'(?:[^']|'')*'", " ", text).lower()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(sql_root())))
def test_no_file_uses_what_is_banned(path: Path) -> None:
    text = code(path.read_text(encoding="utf-8"))
    found = {name: match.group() for name, pattern in BANNED.items() if (match := re.search(pattern, text))}
    if path.parent.name == "load":  # DuckDB reads the spool there: { name: type } and read_json are its own
        found.pop("lists", None)
    assert not found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(sql_root())))
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("-- ")


@pytest.mark.parametrize("name", sorted(queries()))
def test_no_query_that_is_sent_uses_what_is_banned(name: str) -> None:
    text = code(queries()[name][0])
    assert not {n: m.group() for n, pattern in BANNED.items() if (m := re.search(pattern, text))}


def tree(name: str) -> exp.Expression:
    (found,) = sqlglot.parse(queries()[name][0], dialect="duckdb")
    assert found is not None
    return found


def nodes(name: str, kind: type[exp.Expression]) -> Iterator[exp.Expression]:
    yield from tree(name).find_all(kind)


@pytest.mark.parametrize("name", sorted(queries()))
def test_a_number_with_a_fraction_becomes_whole_through_floor_only(name: str) -> None:
    """Engines round differently: 3.7 is 4 in one and 3 in another."""
    for cast in nodes(name, exp.Cast):
        if isinstance(cast, exp.TryCast) or not cast.to.is_type(*exp.DataType.INTEGER_TYPES):
            continue
        # What lies below a floor or below an inner cast is whole already (and the inner cast is looked at on its own).
        inside = cast.this.walk(prune=lambda n: isinstance(n, (exp.Floor, exp.Cast)))
        fraction = any(
            isinstance(n, (exp.Div, exp.Ln)) or (isinstance(n, exp.Literal) and "." in n.name) for n in inside
        )
        assert not fraction, cast.sql()


@pytest.mark.parametrize("name", sorted(queries()))
def test_no_division_can_be_by_zero(name: str) -> None:
    for division in (*nodes(name, exp.Div), *nodes(name, exp.Mod)):
        below = division.expression.unnest()
        literal = isinstance(below, exp.Literal) and float(below.name) != 0
        assert isinstance(below, (exp.Nullif, exp.Parameter, exp.Placeholder)) or literal, division.sql()


@pytest.mark.parametrize("name", sorted(queries()))
def test_a_sum_that_may_be_over_nothing_is_zero_not_null(name: str) -> None:
    """`sum(case when … then 1 end)` is NULL where nothing matched; every branch needs an else, or a coalesce around it."""
    for total in nodes(name, exp.Sum):
        inner = total.this.unnest()
        if isinstance(inner, exp.Case) and inner.args.get("default") is None:
            above = total.parent
            while isinstance(above, (exp.Paren, exp.Window, exp.Cast)):
                above = above.parent
            # A value that is NULL for a request without any number is the meaning of a quantile's sum.
            assert isinstance(above, (exp.Coalesce, exp.Is, exp.If)), total.sql()


@pytest.mark.parametrize("name", sorted(queries()))
def test_windows_are_deterministic(name: str) -> None:
    """A rank without an order, or a running sum over ties by range, would depend on threads."""
    for window in nodes(name, exp.Window):
        ranks = isinstance(window.this, (exp.RowNumber, exp.Lead, exp.Lag))
        assert not ranks or window.args.get("order") is not None, window.sql()
        if isinstance(window.this, exp.Sum) and window.args.get("order") is not None:
            assert window.args["spec"].args["kind"].upper() == "ROWS", window.sql()


@pytest.mark.parametrize("name", sorted(queries()))
def test_the_query_has_words_in_spark(name: str) -> None:
    (text,) = sqlglot.transpile(queries()[name][0], read="duckdb", write="spark", unsupported_level=ErrorLevel.RAISE)
    assert text


def test_every_query_runs_on_an_empty_store(tmp_path: Path) -> None:
    from abtest.store.store import Store

    with Store(tmp_path / "store.duckdb") as store:
        engine = store.engine
        for name in ("exposure_sum", "exposure_first_by_manifest", "exposure"):
            engine.keep("request", *queries()[name])
        for name in ("history_without_columns", "history_sum", "history"):
            engine.keep("history", *queries()[name])
        for name in ("unit_metric", "unit_metric_covariate"):  # the second has the columns of the first, and more
            engine.keep("unit_step", *queries()[name])
        kept = ("exposure", "history", "unit_metric")
        for name in {n for n in queries() if not n.startswith(kept)}:
            rows = engine.rows(*queries()[name])
            assert all(v in (0, None) for row in rows for v in row.values()), name


def test_the_guard_of_numbers_does_what_it_says() -> None:
    """DuckDB takes NaN for the largest number and equal to itself: only a bound from above finds it."""
    con = duckdb.connect()
    row = con.execute(
        "select abs('nan'::double) < 1e308, abs('-inf'::double) < 1e308, abs(1e307) < 1e308, 'nan'::double = 'nan'::double"
    ).fetchone()
    assert row == (False, False, True, True)
