-- The calls before a time.
CREATE OR REPLACE TEMP TABLE gone_call AS
SELECT i.interaction_id, i.request_id, i.trace_id, i.span_id, i.unit_id, i.ts_us,
    CASE WHEN i.cache_hit THEN NULL ELSE i.provider_response_id END AS response_id
FROM interaction i
WHERE i.ts_us < $before
