-- One row a loaded file.
INSERT INTO file_ledger (
    file_id, path, sha256, bytes, source, lines, records, inserted, duplicates, conflicts, quarantined, ignored,
    ingested_us
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
