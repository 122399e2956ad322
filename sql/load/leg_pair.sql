-- Which calls may be silent legs of which: the same messages of the same user to another model group while the other call
-- was under way. A leg is asynchronous; it begins after its primary, or with a synchronous one at
-- about the same time (two threads).
CREATE OR REPLACE TEMP TABLE leg_pair AS
SELECT
    x.interaction_id AS leg_id, p.interaction_id AS primary_id, ABS(x.ts_us - p.ts_us) AS apart,
    COALESCE(x.request_id, p.interaction_id) AS leg_request
FROM leg_row x
JOIN leg_row p
    ON p.trace_id = x.trace_id AND p.asked = x.asked AND p.model_group <> x.model_group
    AND p.unit_id IS NOT DISTINCT FROM x.unit_id AND p.request_id IS NOT DISTINCT FROM x.request_id
    AND p.experiment_id IS NOT DISTINCT FROM x.experiment_id AND p.variant IS NOT DISTINCT FROM x.variant
    AND p.ts_us BETWEEN x.ts_us - $window AND x.ts_us + $window
    AND p.ts_us < x.end_us AND x.ts_us < p.end_us
WHERE
    x.call_type = 'acompletion' AND x.fallbacks IS NULL AND NOT x.crowded AND NOT p.crowded
    AND (
        (p.call_type = 'acompletion' AND p.ts_us < x.ts_us)
        OR (p.call_type = 'completion' AND p.ts_us <= x.ts_us + $lead)
    )
