"""The allow-list of metric expressions: what must pass and what it means, and every way around it that we could think of."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import SpecError, UnknownNameError
from abtest.metrics.expressions import COLUMNS, parse

KEY = "metrics.m.event"


@pytest.fixture(scope="module")
def value() -> Any:
    """Evaluate an expression over one row, as the scan does: quoted columns of a table, JSON as text."""
    con = duckdb.connect()
    con.execute("SET autoinstall_known_extensions = false")
    con.execute("SET autoload_known_extensions = false")

    def value(text: str, **row: Any) -> Any:
        expression = parse(text, key=KEY)
        types = {"text": "VARCHAR", "json": "VARCHAR", "number": "DOUBLE", "boolean": "BOOLEAN"}
        names = sorted(expression.columns) or ["model"]
        cells = [json.dumps(row[n]) if n == "attributes" and n in row else row.get(n) for n in names]
        columns = ", ".join(f'CAST(? AS {types[COLUMNS[n]]}) AS "{n}"' for n in names)
        found = con.execute(f"SELECT {expression.sql('c')} FROM (SELECT {columns}) c", cells).fetchone()
        assert found is not None
        return found[0]

    return value


# -- what passes, and what it means --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("refused", {"refused": True}, True),
        ("NOT refused", {"refused": None}, None),
        ("latency_ms > 2000 AND NOT is_error", {"latency_ms": 2001.0, "is_error": False}, True),
        ("latency_ms > 2000 AND NOT is_error", {"latency_ms": None, "is_error": True}, False),
        ("latency_ms > 2000 AND NOT is_error", {"latency_ms": None, "is_error": False}, None),
        ("latency_ms BETWEEN 1 AND 3", {"latency_ms": 3.0}, True),
        ("finish_reason IN ('length', 'content_filter')", {"finish_reason": "length"}, True),
        ("finish_reason NOT IN ('length')", {"finish_reason": None}, None),
        ("refused IS NULL", {"refused": None}, True),
        ("refused IS NOT NULL", {"refused": None}, False),
        ("refused IS DISTINCT FROM TRUE", {"refused": None}, True),
        ("refused IS TRUE", {"refused": None}, False),
        ("COALESCE(refused, FALSE) OR is_error", {"refused": None, "is_error": True}, True),
        ("CASE WHEN NOT is_error AND format_ok THEN 1 ELSE 0 END", {"is_error": False, "format_ok": True}, 1),
        ("CASE finish_reason WHEN 'stop' THEN 1 WHEN 'length' THEN 2 END", {"finish_reason": "length"}, 2),
        ("IF(is_error, 1, 0)", {"is_error": True}, 1),
        ("LEAST(latency_ms, 10) + GREATEST(ttft_ms, 1)", {"latency_ms": 50.0, "ttft_ms": 0.0}, 11),
        ("NULLIF(output_tokens, 0)", {"output_tokens": 0}, None),
        ("-latency_ms * 2 - (3 - 1)", {"latency_ms": 4.0}, -10),
        ("2 - (3 - 4)", {}, 3),
        ("12 / (2 * 3)", {}, 2),
        ("12 / 2 / 3", {}, 2),
        ("latency_ms / 1000", {"latency_ms": 500.0}, 0.5),
        ("1 / 2", {}, 0.5),
        ("7 % 4", {}, 3),
        ("1e3 + .5", {}, 1000.5),
        ("latency_ms / output_tokens", {"latency_ms": 1.0, "output_tokens": 0}, None),
        ("output_tokens % input_tokens", {"output_tokens": 1, "input_tokens": 0}, None),
        ("1 / (2 - 2)", {}, None),
        ("surface = 'it''s'", {"surface": "it's"}, True),
        ("surface = 'a\\'", {"surface": "a\\"}, True),
        ("surface = '--'", {"surface": "--"}, True),
        ("surface = '/* $x {{ where }} ?'", {"surface": "/* $x {{ where }} ?"}, True),
        ('"latency_ms" > 1', {"latency_ms": 2.0}, True),
        ("TRY_CAST(surface AS DOUBLE)", {"surface": "x"}, None),
        ("TRY_CAST(surface AS INTEGER) = 7", {"surface": "7"}, True),
        ("latency_ms > 1 -- the slow ones", {"latency_ms": 2.0}, True),
        ("latency_ms /* ms */ > 1", {"latency_ms": 2.0}, True),
        ("latency_ms\n  > 1", {"latency_ms": 2.0}, True),
        ("TRUE", {}, True),
    ],
)
def test_allowed_expressions_mean_what_they_say(value: Any, text: str, row: dict[str, Any], expected: Any) -> None:
    assert value(text, **row) == expected
    assert parse(text, key=KEY).columns >= set(row)


@pytest.mark.parametrize(
    ("text", "attributes", "expected"),
    [
        ("attributes ->> 'tier' = 'pro'", {"tier": "pro"}, True),
        ("attributes ->> 'tier' = 'pro' AND TRUE", {"tier": "pro"}, True),
        ("NOT attributes ->> 'tier' = 'pro'", {"tier": "free"}, True),
        ("'pro' = attributes ->> 'tier'", {"tier": "pro"}, True),
        ("attributes ->> 'tier' IS NULL", {"tier": None}, True),
        ("attributes ->> 'tier' IS NULL", {}, True),
        ("attributes ->> 'tier' IN ('pro', 'max')", {"tier": "max"}, True),
        ("COALESCE(attributes ->> 'tier', 'none')", {}, "none"),
        ("attributes ->> '$.user.tier'", {"user": {"tier": "pro"}}, "pro"),
        ("attributes ->> '$.\"user.tier\"'", {"user.tier": "pro"}, "pro"),
        ("TRY_CAST(attributes ->> 'rating' AS DOUBLE) >= 4", {"rating": 4.5}, True),
        ("TRY_CAST(attributes ->> 'rating' AS DOUBLE)", {"rating": "four"}, None),
        ("attributes ->> 'it''s'", {"it's": "x"}, "x"),
        ("attributes ->> 'ok'", {"ok": True}, "true"),
    ],
)
def test_paths_into_attributes(value: Any, text: str, attributes: dict[str, Any], expected: Any) -> None:
    assert value(text, attributes=attributes) == expected


@pytest.mark.parametrize(
    "name", ["gen_ai.tier", "a:b", "user-tier", "a b", "user/tier", "0", "1a", "a@b", "é", "a,b", "_x", 'a"b', "a.b.c"]
)
def test_a_key_without_dollar_is_one_key(value: Any, name: str) -> None:
    """DuckDB reads 'user.tier' as one key, and keys of telemetry have dots; '$.user.tier' is the path."""
    assert value(f"attributes ->> '{name}'", attributes={name: "pro"}) == "pro"


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30))
def test_any_text_survives_as_a_literal(text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    sql = parse(f"surface = {quoted}", key=KEY).sql("c")
    con = duckdb.default_connection()
    assert con.execute(f"SELECT {sql} FROM (SELECT CAST(? AS VARCHAR) AS surface) c", [text]).fetchall() == [(True,)]


def test_columns_come_out_quoted_and_qualified() -> None:
    assert parse("latency_ms > 1 AND refused", key=KEY).sql("c") == '"c"."latency_ms" > 1 AND "c"."refused"'
    assert parse("refused", key=KEY).sql() == '"refused"'


def test_every_column_of_the_scan_may_be_named() -> None:
    for name in COLUMNS:
        text = f"{name} ->> 'x' IS NULL" if COLUMNS[name] == "json" else f"{name} IS NULL"
        assert parse(text, key=KEY, want="boolean").columns == {name}


# -- what must not pass --------------------------------------------------------------------------------------------

ATTACKS = [
    # other statements, other queries
    "1; DROP TABLE interaction", "1); DROP TABLE interaction; SELECT (1", ";", "is_error;", "(SELECT 1)", "(SELECT max(latency_ms) FROM interaction)",
    "EXISTS (SELECT 1)", "latency_ms IN (SELECT 1)", "latency_ms > ALL (SELECT 1)", "latency_ms = ANY (SELECT 1)", "latency_ms = ANY ([1])",
    "1) FROM read_csv('/etc/passwd') --", "1) UNION SELECT (2", "1), (2", "1 FROM interaction", "1 WHERE TRUE", "1) LIMIT (1", "1 ORDER BY 1",
    "1) AS x, (2", "is_error AS x", "FROM interaction", "VALUES (1)", "WITH x AS (SELECT 1) SELECT 1", "DESCRIBE interaction", "PRAGMA version",
    "COPY interaction TO '/tmp/x'", "ATTACH 'x.db'", "INSTALL httpfs", "SET threads = 1",
    # functions
    "read_text('/etc/passwd')", "getenv('HOME')", "read_blob('x') IS NULL", "query('SELECT 1')", "glob('/*')", "current_setting('threads')",
    "sqrt(latency_ms)", "abs(latency_ms)", "random()", "now()", "version()", "md5(model)", "length(model)", "lower(model)", "regexp_matches(model, 'x')",
    "sum(latency_ms)", "count(*)", "max(latency_ms)", "any_value(model)", "sum(latency_ms) OVER ()", "row_number() OVER (ORDER BY latency_ms)",
    "unnest([1, 2])", "generate_series(1, 1000000000)", "range(1000000000)", "sleep(1)", "error('x')", "nextval('s')", "CHR(65)", "main.abs(1)",
    "list_transform([1], x -> x)", "try(1)", "COLUMNS(*)", "COLUMNS('lat.*')", "date_trunc('day', ts)", "EXTRACT(year FROM ts)", "printf('%s', model)",
    # shapes that are no number, text or boolean
    "*", "c.*", "interaction.*", "[1, 2]", "[latency_ms]", "{'a': 1}", "ROW(1, 2)", "(1, 2)", "(refused, is_error)", "MAP {'a': 1}", "model[1]",
    "model[1:2]", "[x for x in [1, 2]]", "x -> x + 1", "lambda x: x", "struct_pack(a := 1)", "INTERVAL 1 DAY", "DATE '2026-01-01'", "TIMESTAMP '2026-01-01'",
    "latency_ms::INTEGER", "CAST(latency_ms AS INTEGER)", "TRY_CAST(latency_ms AS DECIMAL(9,2))", "TRY_CAST(model AS JSON)", "TRY_CAST(model AS BLOB)",
    "TRY_CAST(model AS INTEGER[])", "TRY_CAST(model AS STRUCT(a INTEGER))", "TRY_CAST(model AS TIMESTAMP)", "TRY_CAST(model AS mytype)", "DOUBLE '1'",
    "model || 'x'", "model LIKE 'x%'", "model ILIKE 'x'", "model ~ 'x'", "model SIMILAR TO 'x'", "model GLOB 'x'", "model COLLATE nocase = 'x'",
    "latency_ms // 2", "latency_ms ** 2", "latency_ms ^ 2", "1 << 60", "5 & 3", "5 | 3", "~5", "5!", "@latency_ms",
    # names
    "c.latency_ms", "interaction.latency_ms", "main.interaction.latency_ms", "nope", "prompt_text", "response_text", "ts", "ts_us", "file_id", "source",
    "type", "rowid", "unit_key", "arm", "stage", "call_rank", "LATENCY_MS2", "$experiment", "$1", "?", ":x", "@x", "#1", "current_user", "current_date",
    "DEFAULT", "x'41'", "$$text$$", "E'a\\x41'",
    # attributes
    "attributes", "attributes = 'x'", "attributes IS NULL", "attributes -> 'tier'", "attributes.tier", "attributes['tier']", "attributes ->> '$.*'",
    "attributes ->> '$..tier'", "attributes ->> '$.a[*]'", "attributes ->> '$[0]'", "json_extract_string(attributes, '$.*')", "attributes ->> ['a', 'b']",
    "attributes ->> (SELECT 'a')", "attributes ->> lower('A')", "COALESCE(attributes, '{}')", "attributes ->> '$.a[?(@.b)]'", "attributes ->> '$.a[1:2]'",
    # no expression at all
    "", " ", "--", "/*", "/* x */", "(", ")", "((1)", "1)", "'", "'open", '"open', "AND", "1 +", "latency_ms >", "CASE WHEN", "SELECT", "\x00", "1 2",
    "latency_ms latency_ms", "NOT", "IN (1)", "()",
]  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS)
def test_everything_else_is_a_spec_error_that_names_the_key(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text, key=KEY, want="boolean")
    assert caught.value.key == KEY
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "is_error -- */ OR TRUE /*", "is_error AND /* */ TRUE", "is_error AND -- */ OR TRUE) --\n refused", "is_error /* /* nested */ */ AND refused",
        "is_error AND /* -- */ refused", "is_error --\n AND refused -- x",
    ],
)  # fmt: skip
def test_a_comment_never_becomes_code(text: str) -> None:
    """What is executed has the meaning of the tree: parse the text that goes out once more."""
    try:
        first = parse(text, key=KEY)
    except SpecError:
        return
    out = first.sql()
    con = duckdb.connect()
    for is_error in (True, False):
        for refused in (True, False):
            row = "SELECT CAST(? AS BOOLEAN) AS is_error, CAST(? AS BOOLEAN) AS refused"
            (found,) = con.execute(f"SELECT {out} FROM ({row})", [is_error, refused]).fetchone() or (None,)
            assert found == (is_error and (refused or "refused" not in first.columns))


def test_deep_nesting_is_an_answer_not_a_crash() -> None:
    for text in (
        "(" * 3000 + "1" + ")" * 3000,
        "NOT " * 3000 + "is_error",
        " + ".join(["latency_ms"] * 3000),
        "CASE WHEN refused THEN " * 500 + "1",
    ):
        with contextlib.suppress(SpecError):
            parse(text, key=KEY).sql("c")


@pytest.mark.parametrize(
    ("text", "want", "hint"),
    [
        ("latency_ms", "boolean", "> 0"),
        ("latency_ms + 1", "boolean", "> 0"),
        ("model", "boolean", "= '...'"),
        ("'yes'", "boolean", "= '...'"),
        ("attributes ->> 'x'", "boolean", "= '...'"),
        ("refused", "number", "CASE WHEN"),
        ("latency_ms > 1", "number", "CASE WHEN"),
        ("TRUE", "number", "CASE WHEN"),
        ("model", "number", "TRY_CAST"),
        ("attributes ->> 'x'", "number", "TRY_CAST"),
        ("(latency_ms)", "boolean", "> 0"),
    ],
)
def test_type_mistakes_are_found_before_a_query_runs(text: str, want: Any, hint: str) -> None:
    with pytest.raises(SpecError, match="is needed") as caught:
        parse(text, key=KEY, want=want)
    assert hint in (caught.value.hint or "")


def test_a_misspelt_column_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse("latncy_ms > 1", key=KEY)
    assert "latency_ms" in (caught.value.hint or "")
    with pytest.raises(UnknownNameError):
        parse("Latency_MS > 1", key=KEY)


PIECES = [
    *"()'\"-+*/%;,.$?:[]{}<>=! \n",
    "1",
    "e",
    "refused",
    "attributes",
    "AND",
    "NOT",
    "--",
    "/*",
    "*/",
    "->>",
    "IN",
    "SELECT",
    "'$..a'",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join))
def test_random_noise_is_refused_or_harmless(text: str) -> None:
    """Whatever passes is one expression over known columns, and parses again as one."""
    try:
        expression = parse(text, key=KEY)
    except SpecError:
        return
    assert expression.columns <= set(COLUMNS)
    again = parse(expression.sql(), key=KEY)
    assert again.columns == expression.columns
