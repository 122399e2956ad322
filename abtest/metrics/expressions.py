"""Metric expressions from a spec: parsed by sqlglot, held against an allow-list, never pasted as text.

What passes: literals, columns of an interaction, arithmetic, comparison, AND/OR/NOT, IS NULL, IN (a list), BETWEEN,
CASE, COALESCE, NULLIF, LEAST/GREATEST, TRY_CAST and a JSON path on `attributes` (`attributes ->> 'tier'`).
Everything else, subqueries and functions that read files among it, is a spec error.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import sqlglot
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.expressions.core import Expression as Node

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


COLUMNS: dict[str, ColumnType] = {
    name: _column_type(info.annotation) for name, info in Interaction.model_fields.items() if name not in _HIDDEN
}
"""Every column that an expression may name, with its type."""


class _Dialect(DuckDB):
    """DuckDB as it is: a key without a leading $ or / is one key, dots and all (telemetry keys have dots)."""

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

    def sql(self, table: str = "") -> str:
        """Return DuckDB SQL with columns quoted and, when given, qualified by `table`."""

        def qualify(node: Node) -> Node:
            if isinstance(node, exp.Column):
                return exp.column(node.name, table=table or None, quoted=True)
            if isinstance(node, (exp.Div, exp.Mod)):
                # Engines disagree on x / 0 (infinity, NULL, error): it is unknown.
                divisor = exp.Nullif(this=exp.paren(node.expression.copy()), expression=exp.Literal.number(0))
                node.set("expression", divisor)
            return node

        return self.tree.copy().transform(qualify).sql(dialect="duckdb")

    @property
    def type(self) -> ColumnType | None:
        """Return the type where the outermost node tells it, else None."""
        node = self.tree.unnest()
        if isinstance(node, exp.Column):
            return COLUMNS[node.name]
        if isinstance(node, _PREDICATES):
            return "boolean"
        if isinstance(node, _ARITHMETIC):
            return "number"
        if isinstance(node, exp.Literal):
            return "text" if node.is_string else "number"
        return "text" if isinstance(node, exp.JSONExtractScalar) else None


def parse(text: str, *, key: str, want: ColumnType | None = None) -> Expression:
    """Parse and check one expression.

    Args:
        text: The expression as the spec has it.
        key: The spec key, for the error message.
        want: The type the place needs; a type that is known to be another one is an error.

    Raises:
        SpecError: not an expression, or a node that is not allowed.
        UnknownNameError: a column that no interaction has.
    """
    try:
        # The newline ends a trailing `--` comment of the text inside the parentheses.
        statements = sqlglot.parse(f"SELECT ({text}\n)", dialect=_Dialect)
    except (SqlglotError, RecursionError) as error:
        first = (str(error).splitlines() or ["?"])[0].split(". Line")[0]
        raise SpecError(f"{text!r} is no expression: {first}", key=key) from None
    select = statements[0] if len(statements) == 1 else None
    if not isinstance(select, exp.Select) or len(select.expressions) != 1 or len(_used(select)) != 1:
        raise SpecError(f"{text!r} is more than one expression", key=key)
    tree = select.expressions[0].unnest()
    for node in tree.walk():
        _check_node(node, text, key)
    columns = frozenset(node.name for node in tree.find_all(exp.Column))
    expression = Expression(text, tree, columns)
    _check_type(expression, want, key)
    return expression


def _used(select: exp.Select) -> list[str]:
    return [name for name, value in select.args.items() if value]


def _check_node(node: Node, text: str, key: str) -> None:
    if not isinstance(node, _ALLOWED):
        try:
            what = node.sql(dialect="duckdb")[:60]
        except ValueError:  # some nodes are parsed, but cannot be written back
            what = type(node).__name__
        raise SpecError(
            f"{what!r} is not allowed in an expression ({text!r})",
            key=key,
            hint="use columns, arithmetic, comparison, AND/OR/NOT, IN, BETWEEN, CASE, COALESCE, attributes ->> 'key'",
        )
    if isinstance(node, exp.Column):
        if node.table:
            raise SpecError(f"{node.sql()!r}: write the column without a table", key=key)
        if node.name not in COLUMNS:
            raise UnknownNameError(
                f"no log column is called {node.name!r}", key=key, hint=did_you_mean(node.name, COLUMNS)
            )
        if COLUMNS[node.name] == "json" and not isinstance(node.parent, exp.JSONExtractScalar):
            raise SpecError("attributes needs a path", key=key, hint="write attributes ->> 'key'")
    if isinstance(node, exp.DataType) and node.sql(dialect="duckdb").upper() not in _CASTS:
        raise SpecError(f"cast to {node.sql(dialect='duckdb')} is not allowed", key=key, hint=f"use {sorted(_CASTS)}")
    if isinstance(node, exp.Tuple):
        raise SpecError(f"a list of values goes behind IN only ({text!r})", key=key)
    if isinstance(node, exp.In) and (node.args.get("query") or node.args.get("unnest")):
        raise SpecError(f"IN takes a list of values ({text!r})", key=key)


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
    raise SpecError(f"{expression.text!r} is {have}, a {want} is needed", key=key, hint=hint)
