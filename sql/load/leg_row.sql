-- The Router's calls in these traces that say what was asked, all that are in reach. crowded: more rows of one trace ask
-- the same within the window than attempts and mirrors of one request can be.
CREATE OR REPLACE TEMP TABLE leg_row AS
WITH routed AS (
    SELECT
        i.interaction_id, i.ts_us,
        CASE WHEN i.latency_ms < 1e9 THEN CAST(i.ts_us + FLOOR(i.latency_ms * 1000) AS BIGINT) END AS end_us, i.trace_id,
        i.request_id, i.unit_id, i.experiment_id, i.variant, i.operation,
        json_extract_string(i.attributes, '$.messages_hash') AS asked,
        json_extract_string(i.attributes, '$.model_group') AS model_group,
        json_extract_string(i.attributes, '$.call_type') AS call_type,
        json_extract_string(i.attributes, '$.attempted_fallbacks') AS fallbacks
    FROM interaction i
    WHERE
        i.source = 'litellm' AND i.exposed AND i.ts_us BETWEEN $low AND $high
        AND i.trace_id IN (SELECT q.trace_id FROM leg_trace q)
)
SELECT
    r.*,
    COUNT(*) OVER (
        PARTITION BY r.trace_id, r.asked
        ORDER BY r.ts_us
        RANGE BETWEEN $window PRECEDING AND $window FOLLOWING
    ) > $crowd AS crowded
FROM routed r
WHERE r.asked IS NOT NULL AND r.model_group IS NOT NULL
