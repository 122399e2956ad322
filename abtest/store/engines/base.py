"""What an SQL engine must do: run a query, keep the result of one for the next, and say what it cannot do exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol


class Engine(Protocol):
    """Runs the queries of `sql/`."""

    name: ClassVar[str]
    exact: ClassVar[bool]

    def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run a query and return its rows; DECIMAL sums come back as Python integers."""
        ...

    def keep(self, table: str, sql: str, params: Mapping[str, Any] | None = None) -> None:
        """Keep the result of a query under a name for the queries that follow, replacing an older one."""
        ...

    def drop(self, *tables: str) -> None:
        """Forget kept results; one that is not there is no error."""
        ...
