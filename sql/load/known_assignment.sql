-- The staged assignments that are not new: stored already (load_match), or a repeat of an earlier line of the load.
-- All columns together are the identity, so they never conflict.
CREATE OR REPLACE TEMP TABLE load_known AS
WITH ranked AS (
    SELECT
        l.rowid AS pos, l.place, l.size, l.file_id, l.line, l.byte_offset, l.source,
        ROW_NUMBER() OVER (
            PARTITION BY
                l.experiment_id, l.unit_id, l.variant, l.ts_us, l.reason, l.ruleset_version, l.provider
            ORDER BY l.rowid
        ) AS nth
    FROM load_assignment l
)
SELECT r.pos, r.place, r.size, r.file_id, r.line, r.byte_offset, r.source, '' AS differs
FROM ranked r
WHERE r.nth > 1 OR EXISTS (SELECT 1 FROM load_match m WHERE m.pos = r.pos)
