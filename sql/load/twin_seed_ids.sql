-- Where the search for calls that were logged twice begins: the interactions listed in twin_seed, when rows around them
-- were removed.
CREATE OR REPLACE TEMP TABLE twin_area AS
SELECT
    i.interaction_id, i.ts_us, i.source, i.unit_id, i.experiment_id, i.variant,
    CASE WHEN i.cache_hit THEN NULL ELSE i.provider_response_id END AS response_id, i.trace_id, i.span_id, FALSE AS is_new,
    CASE WHEN i.latency_ms < 1e9 THEN CAST(i.ts_us + FLOOR(i.latency_ms * 1000) AS BIGINT) END AS end_us
FROM interaction i
WHERE i.interaction_id IN (SELECT s.interaction_id FROM twin_seed s)
