"""DuckDB: the embedded engine."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import duckdb

from abtest.errors import UnsupportedByEngine


class DuckDBEngine:
    """Runs queries on one DuckDB connection; kept results are temporary tables of that connection."""

    name: ClassVar[str] = "duckdb"
    exact: ClassVar[bool] = True

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con

    def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run a query and return its rows as dicts."""
        cursor = self._execute(sql, params)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, map(_integer, row), strict=True)) for row in cursor.fetchall()]

    def keep(self, table: str, sql: str, params: Mapping[str, Any] | None = None) -> None:
        """Create a temporary table from a query."""
        self._execute(f'create or replace temp table "{table}" as {sql}', params)

    def drop(self, *tables: str) -> None:
        """Drop temporary tables."""
        for table in tables:
            self._con.execute(f'drop table if exists temp."{table}"')

    def _execute(self, sql: str, params: Mapping[str, Any] | None) -> duckdb.DuckDBPyConnection:
        try:
            return self._con.execute(sql, dict(params)) if params else self._con.execute(sql)
        except (duckdb.OutOfRangeException, duckdb.ConversionException) as error:
            if "out of range" not in str(error).lower():
                raise  # a type that does not fit: the caller knows whose it is
            raise UnsupportedByEngine(
                f"a sum is too large for exact arithmetic: {str(error).splitlines()[0]}",
                hint="measure in a larger unit (seconds, dollars), or cap the value",
            ) from error


def _integer(value: Any) -> Any:
    return int(value) if isinstance(value, Decimal) else value


ENGINE = DuckDBEngine
