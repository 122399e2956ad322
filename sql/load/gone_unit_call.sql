-- The calls of a unit: rows with its id, rows without a unit whose session it is, and whatever was found to be one call
-- with one of these.
CREATE OR REPLACE TEMP TABLE gone_call AS
WITH own AS (
    SELECT i.interaction_id
    FROM interaction i
    WHERE i.unit_id = $unit OR (i.unit_id IS NULL AND (i.session_id = $unit OR i.session_id = $plain))
)
SELECT i.interaction_id, i.request_id, i.trace_id, i.span_id, i.unit_id, i.ts_us,
    CASE WHEN i.cache_hit THEN NULL ELSE i.provider_response_id END AS response_id
FROM interaction i
WHERE
    i.interaction_id IN (SELECT o.interaction_id FROM own o)
    OR i.interaction_id IN (
        SELECT other.interaction_id
        FROM twin other
        JOIN twin t ON t.merged_id = other.merged_id
        WHERE t.interaction_id IN (SELECT o.interaction_id FROM own o)
    )
