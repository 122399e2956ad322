"""Every query file keeps to the portable subset (DESIGN §4), as text and as what is sent to the engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import duckdb
import pytest
import sqlglot
from query_samples import CAPPED, queries, samples, scan
from sqlglot import exp
from sqlglot.errors import ErrorLevel

from abtest.store.files import sql_root
from abtest.store.query import Params, Scan, tallies_of
from abtest.store.rows import HALF_EVEN, WHOLE, fixed

FILES = sorted(sql_root().rglob("*.sql"))
QUERIES = queries()
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
        if path.name.startswith("stage_"):
            found.pop("epoch", None)
    assert not found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(sql_root())))
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("-- ")


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_no_query_that_is_sent_uses_what_is_banned(name: str) -> None:
    text = code(QUERIES[name][0])
    assert not {n: m.group() for n, pattern in BANNED.items() if (m := re.search(pattern, text))}


@cache
def tree(name: str) -> exp.Expression:
    (found,) = sqlglot.parse(QUERIES[name][0], dialect="duckdb")
    assert found is not None
    return found


def nodes(name: str, kind: type[exp.Expression]) -> Iterator[exp.Expression]:
    yield from tree(name).find_all(kind)


CONSTANTS = {HALF_EVEN, WHOLE}


def rounded(node: exp.Expression | None) -> bool:
    """Return whether a node is x + C - C or x - C + C: whole, ties to even, on every engine that has IEEE doubles."""
    if not isinstance(node, (exp.Add, exp.Sub)) or node.expression.sql() not in CONSTANTS:
        return False
    inner = node.this.unnest()
    other = exp.Sub if isinstance(node, exp.Add) else exp.Add
    return isinstance(inner, other) and inner.expression.sql() == node.expression.sql()


def fraction(node: exp.Expression | None) -> bool:
    """Return whether a value may have a fraction; what a condition compares is no part of the value."""
    if node is None or isinstance(node, (exp.Floor, exp.Cast)) or rounded(node):
        return False
    if isinstance(node, exp.Case):
        branches = [case.args["true"] for case in node.args["ifs"] if not without_fraction(case.this)]
        return any(fraction(branch) for branch in (*branches, node.args.get("default")))
    if isinstance(node, (exp.Div, exp.Ln)) or (isinstance(node, exp.Literal) and not node.is_int):
        return True
    return any(fraction(child) for child in node.iter_expressions())


def without_fraction(condition: exp.Expression) -> bool:
    """Return whether a condition holds for doubles only that have no fraction: abs(x) >= 2^52."""
    large = isinstance(condition, exp.GTE) and isinstance(condition.this, exp.Abs)
    return large and condition.expression.sql() == WHOLE


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_number_with_a_fraction_becomes_whole_through_floor_or_rounding_only(name: str) -> None:
    """Engines round differently: 3.7 is 4 in one and 3 in another."""
    for cast in nodes(name, exp.Cast):
        if not isinstance(cast, exp.TryCast) and cast.to.is_type(*exp.DataType.INTEGER_TYPES):
            # What lies below a floor or below an inner cast is whole already (and the inner cast is looked at on its own).
            assert not fraction(cast.this), cast.sql()


def test_the_rule_of_fractions_finds_what_it_is_for() -> None:
    def bad(text: str) -> bool:
        return fraction(sqlglot.parse_one(text, dialect="duckdb"))

    assert bad("a / 2")
    assert bad("a * 1.5")
    assert bad("a * 1e3")
    assert bad("case when a > 1 then ln(a) else 0 end")
    assert bad(f"a * 1e3 + {HALF_EVEN} - {WHOLE}")
    assert bad(f"a * 1e3 + {HALF_EVEN} + {HALF_EVEN}")
    assert bad("case when abs(a * 1e3) >= 5 then a * 1e3 end")
    assert not bad("floor(a / 2)")
    assert not bad("case when a / 2 > 1 then 1 else 0 end")
    for wide in (False, True):
        assert not bad(fixed("a / 3", 1000, wide=wide))


def scans() -> dict[str, Scan]:
    """Return scans that add up doubles."""
    capped = scan(metrics=CAPPED, arms=None).at(caps={1: 800.0})
    return {"plain": scan(), "sum": scan(population={"per_request": "sum"}), "capped": capped}


@pytest.mark.parametrize("name", sorted(scans()))
def test_what_is_added_up_in_doubles_is_whole(name: str) -> None:
    """A sum of doubles is the same in every order only while all of them are whole numbers."""
    scan, params = scans()[name], Params()
    tallies = [t for t in tallies_of(scan.row(j, params) for j in scan.active).values() if t.how == "real"]
    assert tallies
    for tally in tallies:
        for text in (tally.single, tally.attempt):
            case = sqlglot.parse_one(text, dialect="duckdb")
            assert isinstance(case, exp.Case)
            assert len(case.args["ifs"]) == 1
            assert case.args.get("default") is None
            assert rounded(case.args["ifs"][0].args["true"]), text


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_no_division_can_be_by_zero(name: str) -> None:
    for division in (*nodes(name, exp.Div), *nodes(name, exp.Mod)):
        below = division.expression.unnest()
        literal = isinstance(below, exp.Literal) and float(below.name) != 0
        assert isinstance(below, (exp.Nullif, exp.Parameter, exp.Placeholder)) or literal, division.sql()


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_sum_that_may_be_over_nothing_is_zero_not_null(name: str) -> None:
    """`sum(case when … then 1 end)` is NULL where nothing matched; every branch needs an else, or a coalesce around it."""
    for total in nodes(name, exp.Sum):
        inner = total.this.unnest()
        if isinstance(inner, exp.Case) and inner.args.get("default") is None:
            above = total.parent
            while isinstance(above, (exp.Paren, exp.Window, exp.Cast)):
                above = above.parent
            # A value that is NULL for a request without any number is the meaning of a quantile's sum.
            assert isinstance(above, (exp.Coalesce, exp.Is, exp.If)) or asked_for(above), total.sql()


def asked_for(comparison: exp.Expression | None) -> bool:
    """Return whether a comparison stands behind the condition that its left hand is not NULL."""
    if not isinstance(comparison, exp.GT):
        return False
    condition = comparison.parent
    while isinstance(condition.parent if condition else None, (exp.And, exp.Paren)):
        condition = condition.parent
    known = (
        {n.this.this.sql() for n in condition.find_all(exp.Not) if isinstance(n.this, exp.Is)} if condition else set()
    )
    return comparison.this.sql() in known


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_windows_are_deterministic(name: str) -> None:
    """A rank without an order, or a running sum over ties by range, would depend on threads."""
    for window in nodes(name, exp.Window):
        ranks = isinstance(window.this, (exp.RowNumber, exp.Lead, exp.Lag))
        assert not ranks or window.args.get("order") is not None, window.sql()
        if isinstance(window.this, exp.Sum) and window.args.get("order") is not None:
            assert window.args["spec"].args["kind"].upper() == "ROWS", window.sql()


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_the_query_has_words_in_spark(name: str) -> None:
    (text,) = sqlglot.transpile(QUERIES[name][0], read="duckdb", write="spark", unsupported_level=ErrorLevel.RAISE)
    assert text


def test_every_query_runs_on_an_empty_store(tmp_path: Path) -> None:
    from abtest.store.store import Store

    with Store(tmp_path / "store.duckdb") as store:
        engine = store.engine
        engine.keep("some", "select 'u' as unit_id")
        for name, sample in samples().items():
            for table in sample.kept:
                engine.keep(table, *sample.query)
            rows = [] if sample.kept else engine.rows(*sample.query)
            assert all(v in (0, None) for row in rows for v in row.values()), name


def test_the_guard_of_numbers_does_what_it_says() -> None:
    """DuckDB takes NaN for the largest number and equal to itself: only a bound from above finds it."""
    con = duckdb.connect()
    row = con.execute(
        "select abs('nan'::double) < 1e308, abs('-inf'::double) < 1e308, abs(1e307) < 1e308, 'nan'::double = 'nan'::double"
    ).fetchone()
    assert row == (False, False, True, True)
