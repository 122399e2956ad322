"""Attacks on metric expressions: none may reach a file, another query, a function, a setting, or the parser's stack.

Every text is held against the parser; what passes is executed beside a secret file and a table that must stay as they are.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import SpecError
from abtest.metrics.expressions import COLUMNS, MAX_CHAIN, MAX_DEPTH, MAX_LENGTH, Expression, parse

KEY = "metrics.m.event"
SECRET = "secret-4711"

READ = [
    "read_csv('{f}')", "read_csv_auto('{f}')", "read_text('{f}')", "read_blob('{f}')", "read_json('{f}')", "read_parquet('{f}')",
    "(SELECT content FROM read_text('{f}'))", "(FROM read_text('{f}'))", "(TABLE interaction)", "(FROM '{f}')", "'{f}'.content",
    "(SELECT * FROM '{f}')", "EXISTS (FROM '{f}')", "EXISTS (FROM read_csv('{f}'))", "model IN (FROM read_text('{f}'))", "model IN '{f}'",
    "model IN (SELECT content FROM read_text('{f}'))", "model = ANY(SELECT content FROM read_text('{f}'))", "ARRAY(SELECT 1)", "[(SELECT 1)]",
    "CASE WHEN (SELECT count(*) FROM glob('/*')) > 0 THEN 1 END", "COALESCE((SELECT 1), 2)", "LEAST(1, (SELECT 1))", "TRY_CAST((SELECT 1) AS INT)",
    "(WITH x AS (SELECT 1) FROM x)", "(VALUES (1))", "(1 UNION SELECT 2)", "(SELECT 1 INTERSECT SELECT 1)", "(DESCRIBE interaction)",
    "(SUMMARIZE interaction)", "(SHOW TABLES)", "(PIVOT interaction ON model)", "LATERAL (SELECT 1)", "is_error FROM interaction, (SELECT 1)",
]  # fmt: skip
FUNCTIONS = [
    "getenv('HOME')", "getvariable('x')", "current_setting('temp_directory')", "current_database()", "duckdb_settings()", "query('SELECT 1')",
    "query_table('interaction')", "pragma_version()", "sniff_csv('{f}')", "parquet_metadata('{f}')", "system.main.getenv('HOME')",
    '"getenv"(\'HOME\')', "main.\"read_text\"('{f}')", "GETENV('HOME')", "gEtEnV ('HOME')", "getenv/**/('HOME')", "getenv--x\n('HOME')",
    "txid_current()", "error('x')", "sleep_ms(1)", "nextval('x')", "setseed(0.5)", "random()", "uuid()", "gen_random_uuid()", "now()", "today()",
    "get_current_timestamp()", "current_timestamp", "current_localtime", "version()", "hash(model)", "md5(model)", "sha256(model)", "repeat(model, 999)",
    "repeat('x', 1000000000)", "lpad('x', 1000000000)", "range(1000000000)", "generate_series(1, 9)", "regexp_matches(model, '(a+)+$')", "model ~ '(a+)+$'",
    "format('{}', model)", "printf('%s', model)", "to_json(model)", "json_extract(attributes, '$')", "json_keys(attributes)", "attributes::JSON",
    "json_execute_serialized_sql('x')", "struct_extract(model, 'x')", "list_aggregate([1], 'sum')", "apply([1], x -> x)", "list_reduce([1], (a, b) -> a)",
    "list_transform([1], lambda x: x)", "[x + 1 for x in [1, 2] if x]", "x -> x", "(x, y) -> x", "lambda x: getenv(x)", "COLUMNS(*)", "COLUMNS(x -> TRUE)",
    "* EXCLUDE (model)", "* REPLACE (1 AS model)", "*COLUMNS('a')", "UNPACK(COLUMNS(*))", "unnest([1])", "UNNEST(attributes)", "grouping(model)",
    "count(*) OVER ()", "sum(latency_ms) OVER (PARTITION BY unit_id)", "lag(latency_ms) OVER w", "max(latency_ms) FILTER (WHERE TRUE)",
    "first(model ORDER BY model)", "quantile_cont(latency_ms, 0.5)", "my_macro(1)", "model.upper()", "model.read_text()", "attributes.json_keys()",
    "TRY(getenv('HOME'))", "CAST(model AS INT)", "model::INT", "IFNULL(getenv('HOME'), 'x')", "NVL(getenv('HOME'), 'x')", "NULLIF(getenv('HOME'), 'x')",
    "IF(TRUE, getenv('HOME'), 'x')", "CASE getenv('HOME') WHEN 'x' THEN 1 END", "COALESCE(NULL, getenv('HOME'))", "GREATEST(1, random())",
    "latency_ms BETWEEN random() AND 2", "model IN (getenv('HOME'))", "model IN (version(), 'x')", "-random()", "NOT random()", "1 + random() * 2",
]  # fmt: skip
STATEMENTS = [
    "1; ATTACH '{f}' AS x", "1); ATTACH '{f}' AS x; SELECT (1", "ATTACH '{f}'", "DETACH x", "PRAGMA database_list", "PRAGMA enable_external_access", "CALL pragma_version()",
    "SET enable_external_access = true", "RESET threads", "LOAD httpfs", "INSTALL httpfs", "COPY interaction TO '{f}'", "COPY (SELECT 1) TO '{f}'",
    "EXPORT DATABASE '{f}'", "IMPORT DATABASE '{f}'", "CREATE MACRO f() AS 1", "1); CREATE MACRO abs(x) AS 1; SELECT (1", "DROP TABLE interaction", "DELETE FROM interaction",
    "INSERT INTO interaction VALUES (1)", "UPDATE interaction SET refused = TRUE", "EXPLAIN SELECT 1", "EXECUTE x", "PREPARE x AS SELECT 1", "BEGIN", "VACUUM", "CHECKPOINT",
    "1) INTO OUTFILE '{f}' --", "1 QUALIFY TRUE", "1 SAMPLE 10%", "1 USING SAMPLE 1", "1 GROUP BY ALL", "1 HAVING TRUE", "1 WINDOW w AS ()", "DISTINCT refused", "ALL refused",
]  # fmt: skip
TRICKS = [
    # quoted names
    '"refused"" OR TRUE --"', '"refused") OR (TRUE"', '"refused"."x"', '"c"."refused"', '"interaction"."refused"', '"main"."interaction"."refused"', '"', '""', '"""refused"""',
    '"refused\x00"', '" refused"', '"REFUSED "', "`refused`", "[refused]", "refused.refused", "c.*", "interaction", "request", "rowid", "ctid", "ts_us", "file_id", "unit_key",
    # look-alikes and invisible characters
    "r\u0435fused", "\uff52\uff45\uff46\uff55\uff53\uff45\uff44", "refused\u200b", "\u200brefused", "ref\u00adused", "refused\u202e", "\ufeffrefused", "refu\u017fed", "\u212cefused",
    "refused \u2228 TRUE", "refused\u00a0OR\u00a0TRUE\u037e DROP TABLE x", "\uff07; DROP TABLE x; --", "\u02bc OR TRUE", "refused = \u2018x\u2019", "\x1arefused", "refused\x08",
    # parameters and slots of our own queries
    "$experiment", "$1", "?", ":experiment", "@experiment", "{{ where }}", "{{ measures }}", "{{where}}", "%(x)s", "${{HOME}}", "#refused", "refused = $experiment", "$$x$$", "$x$y$x$",
    # casts
    "TRY_CAST(model AS JSON)", "TRY_CAST(model AS BLOB)", "TRY_CAST(model AS BIT)", "TRY_CAST(model AS UUID)", "TRY_CAST(model AS HUGEINT)", "TRY_CAST(model AS DECIMAL(38,38))",
    "TRY_CAST(model AS VARCHAR[])", "TRY_CAST(model AS MAP(VARCHAR, INT))", "TRY_CAST(model AS STRUCT(a INT))", "TRY_CAST(model AS UNION(a INT))", "TRY_CAST(model AS ENUM('a'))",
    "TRY_CAST(model AS REGCLASS)", "TRY_CAST(model AS interaction)", "TRY_CAST(model AS \"INT\"\"\")", "TRY_CAST(model AS VARCHAR(9))", "TRY_CAST(model AS VARCHAR COLLATE nocase)",
    "TRY_CAST(model AS INT USING (SELECT 1))", "TRY_CAST(model AS DATE)", "TRY_CAST(model AS INTERVAL)", "TRY_CAST(model AS VARIANT)", "TRY_CAST(model AS NULL)", "TRY_CAST(model AS INT[3])",
    # paths
    "attributes ->> '$'", "attributes ->> ''", "attributes ->> '/'", "attributes ->> '$[*]'", "attributes ->> '$.*.x'", "attributes ->> '$..*'", "attributes ->> '$[-1]'", "attributes ->> '$[#-1]'",
    "attributes ->> '$.a[?(@.b == ''c'')]'", "attributes ->> '$.a'' || getenv(''HOME'') || '''", "attributes ->> model", "attributes ->> $x", "attributes ->> 1", "attributes ->> NULL",
    "attributes ->> ('a' || 'b')", "attributes ->> getenv('HOME')", "attributes ->> ARRAY['a']", "attributes -> 'a' ->> 'b'", "attributes #>> '{{a}}'", "attributes @> '{{}}'", "attributes ? 'a'",
    "attributes['a']", "attributes.a.b", "model ->> 'a'", "'{{\"a\":1}}' ->> 'a'", "COALESCE(attributes, model) ->> 'a'", "(attributes) ->> 'a' ->> 'b'",
]  # fmt: skip


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A database with one row and, beside it, a file that nothing may read."""
    folder = tmp_path_factory.mktemp("attack")
    secret = folder / "secret.csv"
    secret.write_text(f"content\n{SECRET}\n")
    con = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    types = {"text": "VARCHAR", "json": "VARCHAR", "number": "DOUBLE", "boolean": "BOOLEAN"}
    con.execute(f"CREATE TABLE interaction ({', '.join(f'{n} {types[t]}' for n, t in COLUMNS.items())})")
    con.execute("INSERT INTO interaction (interaction_id, model, refused, attributes) VALUES ('i', 'm', TRUE, '{}')")
    return con, secret


@pytest.mark.parametrize("text", READ + FUNCTIONS + STATEMENTS + TRICKS)
@pytest.mark.parametrize("wrap", ["{}", "refused AND ({})", "CASE WHEN {} THEN TRUE END", "COALESCE(refused, {})"])
def test_no_attack_passes(sandbox: tuple[Any, Path], text: str, wrap: str) -> None:
    """Refused with the key, on one line; the few texts that are harmless after all are executed and change nothing."""
    con, secret = sandbox
    attack = wrap.replace("{}", text.replace("{f}", str(secret)).replace("{{", "{").replace("}}", "}"))
    found = attempt(attack)
    if isinstance(found, SpecError):
        assert found.key == KEY
        assert len(str(found).splitlines()) == 1
        return
    assert found.columns <= set(COLUMNS)
    assert SECRET not in run(con, f"SELECT {found.sql('c')} FROM interaction c")
    assert con.execute("SELECT count(*), max(model), bool_and(refused) FROM interaction").fetchall() == [(1, "m", True)]


def attempt(text: str) -> Expression | SpecError:
    try:
        return parse(text, key=KEY)
    except SpecError as error:
        return error


def run(con: Any, sql: str) -> str:
    """Return what the database answers, rows or an error, as text."""
    try:
        return repr(con.execute(sql).fetchall())
    except duckdb.Error as error:
        return str(error)


HARMLESS = {"TRY_CAST(model AS VARCHAR(9))"}
"""A length means nothing to DuckDB, and is not written out."""


def test_what_passes_is_known_here() -> None:
    """The list above is a list of refusals: whoever widens the grammar has to look at each text that begins to pass."""
    texts = {
        t: t.replace("{f}", "/etc/hostname").replace("{{", "{").replace("}}", "}")
        for t in READ + FUNCTIONS + STATEMENTS + TRICKS
    }
    assert {t for t, text in texts.items() if not isinstance(attempt(text), SpecError)} == HARMLESS


@pytest.mark.parametrize(
    "text",
    [
        "$experiment",
        "?",
        "{{ where }}",
        "'; DROP TABLE interaction; --",
        "\\'",
        "%s",
        "$1",
        "\u2018",
        "\x01",
        "--",
        "/*",
        "{0}",
    ],
)
def test_a_literal_with_code_in_it_is_text(sandbox: tuple[Any, Path], text: str) -> None:
    con, _ = sandbox
    quoted = "'" + text.replace("'", "''") + "'"
    sql = parse(f"surface = {quoted}", key=KEY).sql("c")
    query = f"SELECT {sql}, $bound FROM (SELECT CAST($text AS VARCHAR) AS surface) c"
    assert con.execute(query, {"bound": 1, "text": text}).fetchall() == [(True, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 4000 + "1" + ")" * 4000, "NOT " * 2400 + "is_error", "-" * 9000 + "1", "- " * 4000 + "1", " + ".join(["latency_ms"] * 700), "CASE WHEN refused THEN " * 300 + "1" + " END" * 300,
        "COALESCE(" * 900 + "1" + ")" * 900, "'" + "x" * MAX_LENGTH + "'", "1" * (MAX_LENGTH + 1), " " * MAX_LENGTH + "1", "attributes ->> '" + "a." * 4000 + "'", "attributes ->> '$" + ".a" * 4000 + "'",
        "refused" + " OR refused" * 900, "model IN (" + ",".join(["'x'"] * 2400) + ")", "/*" * 4000, "/*" * 2000 + "*/" * 2000 + "1", "--\n" * 3000 + "1", "[" * 5000, "{" * 5000, "attributes" + " ->> 'a'" * 1000,
        "IF(refused, " * 800 + "1", "(" * 9999, ")" * 9999, "'" * 9999, '"' * 9999, "$" * 9999, "1." * 4000, "1e" * 4000, "0x" + "f" * 5000, "x." * 4000 + "y", "BETWEEN " * 1000, "CASE " * 1900,
    ],
    ids=lambda t: t[:12],
)  # fmt: skip
def test_long_and_deep_texts_are_answered_soon(text: str) -> None:
    began = time.monotonic()
    found = attempt(text)
    if isinstance(found, SpecError):
        assert found.key == KEY
        assert len(str(found)) < 1500
    else:
        assert found.sql("c")
        assert len(text) <= MAX_LENGTH
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "text",
    [
        "refused -- it's $experiment",
        "refused /* {{ where }} */",
        "/* ' */ refused",
        "refused /*+ hint */",
        "(refused /* a */) -- b",
    ],
)
def test_comments_are_not_written_out(text: str) -> None:
    assert parse(text, key=KEY).sql("c") == '"c"."refused"'


def test_the_bounds_are_where_they_are_said_to_be() -> None:
    assert parse("1" + " " * (MAX_LENGTH - 1), key=KEY)
    with pytest.raises(SpecError, match=f"{MAX_LENGTH} is the most"):
        parse("1" + " " * MAX_LENGTH, key=KEY)
    deep = "COALESCE(" * (MAX_DEPTH - 3) + "1" + ")" * (MAX_DEPTH - 3)
    assert _from_a_deep_stack(deep, 250)
    with pytest.raises(SpecError, match="nested too deep"):
        parse("COALESCE(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH, key=KEY)
    assert parse("refused" + " OR refused" * MAX_CHAIN, key=KEY).sql("c")
    with pytest.raises(SpecError, match="terms in a row"):
        parse("refused" + " OR refused" * (MAX_CHAIN + 2), key=KEY)


def _from_a_deep_stack(text: str, frames: int) -> str:
    """Parse with that many calls around it, as a notebook or a test runner has."""
    return _from_a_deep_stack(text, frames - 1) if frames else parse(text, key=KEY).sql("c")


GRAMMAR = [
    "refused", "latency_ms", "cost", "attributes", "->>", "'tier'", "'$.a'", "(", ")", ",", "AND", "NOT", "IS", "NULL", "IN", "CASE", "WHEN", "THEN", "END", "COALESCE(", "TRY_CAST(", "AS", "DOUBLE", "SELECT",
    "FROM", "interaction", "read_text(", "getenv(", "OVER", "LAMBDA", "->", "[", "]", "{", "}", ":", "::", ";", "--", "/*", "*/", "\n", "$x", "?", "*", "EXISTS", "WITH", "UNION", "LIMIT", "1", ".", "||", '"',
]  # fmt: skip
FORBIDDEN = (
    "select",
    "from",
    "read_text",
    "getenv",
    "over",
    "exists",
    "union",
    "with ",
    "lambda",
    "limit",
    "$x",
    "?",
    ";",
    "--",
    "/*",
)


@settings(max_examples=400)
@given(st.lists(st.sampled_from(GRAMMAR), min_size=1, max_size=12).map(" ".join))
def test_random_sql_never_leaves_the_grammar(text: str) -> None:
    found = attempt(text)
    if isinstance(found, SpecError):
        assert found.key == KEY
        return
    assert found.columns <= set(COLUMNS)
    words = found.sql("c").lower().replace("'tier'", "").replace("'$.a'", "")
    assert not any(word in words for word in FORBIDDEN)
