"""Finds the query files: `abtest/_sql` in an installed wheel, `sql/` beside the package in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from abtest.errors import StoreError


@cache
def sql_root() -> Path:
    """Return the folder of query files; raises StoreError for a broken installation."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "_sql", package.parent / "sql"):
        if (candidate / "migrations").is_dir():
            return candidate
    raise StoreError("the query files (sql/) are missing from this installation", hint="reinstall abtest")


@cache
def load_sql(name: str) -> str:
    """Return the text of `sql/<name>.sql`; `name` may contain a folder ("load/interaction")."""
    path = sql_root() / f"{name}.sql"
    if not path.is_file():
        raise StoreError(f"there is no query file {name}.sql", hint="reinstall abtest")
    return path.read_text(encoding="utf-8")
