-- The traces of the gateway's new rows that several of its rows around their times carry: most traces have one row.
CREATE OR REPLACE TEMP TABLE leg_trace AS
SELECT i.trace_id
FROM interaction i
WHERE
    i.source = 'litellm' AND i.exposed AND i.ts_us BETWEEN $low AND $high
    AND i.trace_id IN (
        SELECT n.trace_id FROM interaction n
        WHERE n.file_id >= $first AND n.source = 'litellm' AND n.exposed AND n.trace_id IS NOT NULL
    )
GROUP BY i.trace_id
HAVING COUNT(*) > 1
