"""The DuckDB file: logs, frozen constants, decision ledger; and the queries of `sql/`."""
