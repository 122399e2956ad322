-- One row a piece of a file; one element of each list a row.
INSERT INTO file_ledger (
    file_id, path, sha256, bytes, source, lines, records, inserted, duplicates, conflicts, quarantined, ignored,
    ingested_us, parent_id, root_id, start_byte, end_number, head, tail, container
)
SELECT
    UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS VARCHAR[])), UNNEST(CAST(? AS VARCHAR[])),
    UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS VARCHAR[])), UNNEST(CAST(? AS BIGINT[])),
    UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS BIGINT[])),
    UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS BIGINT[])),
    UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS BIGINT[])),
    UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS BIGINT[])), UNNEST(CAST(? AS VARCHAR[])),
    UNNEST(CAST(? AS VARCHAR[])), UNNEST(CAST(? AS VARCHAR[]))
