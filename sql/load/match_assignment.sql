-- Which staged assignments are stored already: all columns are the same.
CREATE OR REPLACE TEMP TABLE load_match AS
SELECT l.rowid AS pos
FROM load_assignment l
WHERE EXISTS (
    SELECT 1 FROM assignment t
    WHERE
        t.experiment_id = l.experiment_id
        AND t.unit_id = l.unit_id
        AND t.variant = l.variant
        AND t.ts_us = l.ts_us
        AND t.reason IS NOT DISTINCT FROM l.reason
        AND t.ruleset_version IS NOT DISTINCT FROM l.ruleset_version
        AND t.provider IS NOT DISTINCT FROM l.provider
)
