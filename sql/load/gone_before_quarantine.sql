-- The rejected lines that were loaded before a time, or state an earlier one in the native form.
CREATE OR REPLACE TEMP TABLE gone_quarantine AS
SELECT q.quarantine_id
FROM quarantine q
WHERE
    q.at_us < $before
    OR TRY(CAST(json_extract_string(DECODE(q.raw), '$.ts') AS TIMESTAMPTZ)) < MAKE_TIMESTAMPTZ($before)
