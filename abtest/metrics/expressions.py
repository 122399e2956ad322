"""Metric expressions from a spec: parsed by sqlglot, held against an allow-list, never pasted as text.

What passes: literals, columns of an interaction, arithmetic, comparison, AND/OR/NOT, IS NULL, IN (a list), BETWEEN,
CASE, COALESCE, NULLIF, LEAST/GREATEST, TRY_CAST and a JSON path on `attributes` (`attributes ->> 'tier'`).
Everything else, subqueries and functions that read files among it, is a spec error. Texts are at most `MAX_LENGTH` long
and `MAX_DEPTH` deep, so that no spec can exhaust the parser or the engine.

One name is no column of the log: `cost` is the logged `cost_usd`, else what the price book says (metrics/prices.py).
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import sqlglot
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.expressions.core import Expr as Node

from abtest.errors import SpecError, UnknownNameError, did_you_mean
from abtest.records import Interaction

ColumnType = Literal["text", "number", "boolean", "json"]

_ALLOWED: tuple[type[Node], ...] = (
    exp.Literal, exp.Boolean, exp.Null, exp.Column, exp.Identifier, exp.Paren, exp.Neg,
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod,
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In, exp.Between, exp.NullSafeEQ, exp.NullSafeNEQ,
    exp.And, exp.Or, exp.Not,
    exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Least, exp.Greatest,
    exp.TryCast, exp.DataType, exp.JSONExtractScalar, exp.JSONPath, exp.JSONPathRoot, exp.JSONPathKey, exp.Tuple,
)  # fmt: skip
_CASTS = {"BIGINT", "INT", "DOUBLE", "BOOLEAN", "VARCHAR", "TEXT"}
_PREDICATES = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In, exp.Between, exp.And, exp.Or, exp.Not,
               exp.NullSafeEQ, exp.NullSafeNEQ, exp.Boolean)  # fmt: skip
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg)
_HIDDEN = {"type", "ts", "prompt_text", "response_text"}
"""Fields of the record that are no column of the scan: text lives apart, time is `ts_us`."""


def _column_type(annotation: Any) -> ColumnType:
    if get_origin(annotation) is typing.Annotated:
        return _column_type(get_args(annotation)[0])
    if get_origin(annotation) in (UnionType, typing.Union):
        return _column_type(next(a for a in get_args(annotation) if a is not NoneType))
    if annotation is bool:
        return "boolean"
    if annotation in (int, float, datetime):
        return "number"
    return "json" if get_origin(annotation) is dict else "text"


MAX_LENGTH = 10_000
"""Characters of an expression."""
MAX_DEPTH = 24
"""Levels of nesting: above what a person writes, below what the parser's recursion can take from any caller (measured: 38)."""
MAX_CHAIN = 500
"""Terms of one chain (a + b + ..., a OR b OR ...): an engine takes 1,000."""

COLUMNS: dict[str, ColumnType] = {
    name: _column_type(info.annotation) for name, info in Interaction.model_fields.items() if name not in _HIDDEN
}
"""Every column that an expression may name, with its type."""

DERIVED: dict[str, ColumnType] = {"cost": "number"}
"""Names that stand for an expression over columns; the experiment says which (`parse(..., derived=...)`)."""
_PLAIN: dict[str, Node] = {"cost": exp.column("cost_usd")}
"""What a derived name means when nobody says otherwise: without a price book only logged cost is known."""
_NAMES: dict[str, ColumnType] = COLUMNS | DERIVED


class _Dialect(DuckDB):
    """DuckDB as it is: a key without a leading $ or / is one key, dots and all (telemetry keys have dots)."""

    STRICT_JSON_PATH_SYNTAX = False  # what is no path is our error, not a warning on stderr

    def to_json_path(self, path: Any) -> Any:
        """Return the path of `attributes ->> 'key'`."""
        if isinstance(path, exp.Literal) and path.is_string and not path.name.startswith(("$", "/")):
            return exp.JSONPath(expressions=[exp.JSONPathRoot(), exp.JSONPathKey(this=path.name)])
        return super().to_json_path(path)


@dataclass(frozen=True)
class Expression:
    """A checked expression: its tree (columns unqualified) and the interaction columns it reads."""

    text: str
    tree: Node
    columns: frozenset[str]
    _written: dict[str, str] = field(default_factory=dict[str, str], init=False, repr=False, compare=False)

    def sql(self, table: str = "") -> str:
        """Return DuckDB SQL with columns quoted and, when given, qualified by `table`."""
        if table not in self._written:
            self._written[table] = self._write(table)
        return self._written[table]

    def _write(self, table: str) -> str:
        def qualify(node: Node) -> Node:
            if isinstance(node, exp.Column):
                return exp.column(node.name, table=table or None, quoted=True)
            if isinstance(node, (exp.Div, exp.Mod)):
                # Engines disagree on x / 0 (infinity, NULL, error): it is unknown.
                divisor = exp.Nullif(this=exp.paren(node.expression.copy()), expression=exp.Literal.number(0))
                node.set("expression", divisor)
            return node

        # Comments of the spec stay there: whoever reads our queries for names or quotes must not meet them.
        return self.tree.copy().transform(qualify).sql(dialect="duckdb", comments=False)

    @property
    def type(self) -> ColumnType | None:
        """Return the type where the outermost node tells it, else None."""
        node = self.tree.unnest()
        if isinstance(node, exp.Column):
            return _NAMES.get(node.name)
        if isinstance(node, _PREDICATES):
            return "boolean"
        if isinstance(node, _ARITHMETIC):
            return "number"
        if isinstance(node, exp.Literal):
            return "text" if node.is_string else "number"
        return "text" if isinstance(node, exp.JSONExtractScalar) else None


def parse(
    text: str, *, key: str, want: ColumnType | None = None, derived: Mapping[str, Node] | None = None
) -> Expression:
    """Parse and check one expression.

    Args:
        text: The expression as the spec has it.
        key: The spec key, for the error message.
        want: The type the place needs; a type that is known to be another one is an error.
        derived: What the names of `DERIVED` stand for, as trees over columns; they are ours and are not checked.

    Raises:
        SpecError: not an expression, too long or too deep, or a node that is not allowed.
        UnknownNameError: a column that no interaction has.
    """
    tree = _tree(text, key)
    for node in tree.walk():
        _check_node(node, text, key)
    _check_type(Expression(text, tree, frozenset()), want, key)
    expanded = _expand(tree, {**_PLAIN, **(derived or {})})
    return Expression(text, expanded, frozenset(node.name for node in expanded.find_all(exp.Column)))


def _tree(text: str, key: str) -> Node:
    """Return the tree of a text that is exactly one expression."""
    if len(text) > MAX_LENGTH:
        raise SpecError(f"an expression of {len(text)} characters; {MAX_LENGTH} is the most", key=key)
    if not text.strip():
        raise SpecError("an empty text is no expression", key=key, hint="leave the key out")
    try:
        # The newline ends a trailing `--` comment of the text inside the parentheses.
        statements = sqlglot.parse(f"SELECT ({text}\n)", dialect=_Dialect)
    except RecursionError:
        raise _too_deep(text, key) from None
    except SqlglotError as error:
        first = (str(error).splitlines() or ["?"])[0].split(". Line")[0]
        raise SpecError(f"{_short(text)} is no expression: {first}", key=key) from None
    select = statements[0] if len(statements) == 1 else None
    if not isinstance(select, exp.Select) or len(select.expressions) != 1 or len(_used(select)) != 1:
        raise SpecError(f"{_short(text)} is more than one expression", key=key)
    if _too_nested(select):
        raise _too_deep(text, key)
    return select.expressions[0].unnest()


def _expand(tree: Node, derived: Mapping[str, Node]) -> Node:
    """Return the tree with every derived name replaced by what it stands for."""

    def replace(node: Node) -> Node:
        known = isinstance(node, exp.Column) and node.name in derived
        return exp.paren(derived[node.name].copy()) if known else node

    return tree.transform(replace) if any(n.name in derived for n in tree.find_all(exp.Column)) else tree


def _too_nested(tree: Node) -> bool:
    """Return whether a tree is nested deeper than `MAX_DEPTH`, chains counting as one level but no longer than `MAX_CHAIN`."""
    stack = [(tree, 0, 0)]
    while stack:
        node, depth, chain = stack.pop()
        if depth > MAX_DEPTH or chain > MAX_CHAIN:
            return True
        for child in node.iter_expressions():
            # The parser takes a chain of one operator in a loop; it hangs together by the left hands.
            linked = isinstance(node, exp.Binary) and type(child) is type(node) and child is node.this
            stack.append((child, depth, chain + 1) if linked else (child, depth + 1, 0))
    return False


def _too_deep(text: str, key: str) -> SpecError:
    hint = f"{MAX_DEPTH} levels, and {MAX_CHAIN} terms in a row, are the most; use IN for a list of values"
    return SpecError(f"{_short(text)} is nested too deep", key=key, hint=hint)


def _short(text: str) -> str:
    """Return the text as an error message quotes it."""
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def _used(select: exp.Select) -> list[str]:
    return [name for name, value in select.args.items() if value]


def _check_node(node: Node, text: str, key: str) -> None:
    if not isinstance(node, _ALLOWED):
        try:
            what = node.sql(dialect="duckdb")[:60]
        except ValueError:  # some nodes are parsed, but cannot be written back
            what = type(node).__name__
        raise SpecError(
            f"{what!r} is not allowed in an expression ({_short(text)})",
            key=key,
            hint="use columns, arithmetic, comparison, AND/OR/NOT, IN, BETWEEN, CASE, COALESCE, attributes ->> 'key'",
        )
    if isinstance(node, exp.Column):
        if node.table:
            raise SpecError(f"{node.sql()!r}: write the column without a table", key=key)
        if node.name not in _NAMES:
            raise UnknownNameError(
                f"no log column is called {_short(node.name)}", key=key, hint=did_you_mean(node.name, _NAMES)
            )
        if _NAMES[node.name] == "json" and not isinstance(node.parent, exp.JSONExtractScalar):
            raise SpecError("attributes needs a path", key=key, hint="write attributes ->> 'key'")
    if isinstance(node, exp.DataType) and node.sql(dialect="duckdb").upper() not in _CASTS:
        raise SpecError(f"cast to {node.sql(dialect='duckdb')} is not allowed", key=key, hint=f"use {sorted(_CASTS)}")
    if isinstance(node, exp.Tuple):
        raise SpecError(f"a list of values goes behind IN only ({_short(text)})", key=key)
    if isinstance(node, exp.In) and (
        not node.expressions or any(node.args.get(a) for a in ("query", "unnest", "field"))
    ):
        # DuckDB reads `model IN 'text'` as "text contains model".
        raise SpecError(f"IN takes a list of values ({_short(text)})", key=key, hint="write IN ('a', 'b')")
    if isinstance(node, exp.JSONExtractScalar):
        _check_path(node, text, key)


def _check_path(node: exp.JSONExtractScalar, text: str, key: str) -> None:
    """Only `attributes` holds JSON, and only a written-out path of keys means the same on every engine."""
    path = node.expression
    keys = path.expressions[1:] if isinstance(path, exp.JSONPath) else []
    if not keys or any(isinstance(k, exp.JSONPathKey) and k.name == "" for k in keys):
        raise SpecError(
            f"no path of keys behind ->> ({_short(text)})", key=key, hint="write ->> 'key' or ->> '$.key.key'"
        )
    if not isinstance(node.this, exp.Column) or COLUMNS.get(node.this.name) != "json":
        raise SpecError(f"->> goes with attributes only ({_short(text)})", key=key, hint="write attributes ->> 'key'")


def _check_type(expression: Expression, want: ColumnType | None, key: str) -> None:
    have = expression.type
    if want is None or have is None or have == want:
        return
    hint = {
        ("boolean", "number"): f'write a comparison: "{expression.text} > 0"',
        ("boolean", "text"): f"write a comparison: \"{expression.text} = '...'\"",
        ("number", "boolean"): 'use kind = "proportion" with event, or CASE WHEN ... THEN 1 ELSE 0 END',
        ("number", "text"): f"write TRY_CAST({expression.text} AS DOUBLE)",
    }.get((want, have))
    raise SpecError(f"{_short(expression.text)} is {have}, a {want} is needed", key=key, hint=hint)
