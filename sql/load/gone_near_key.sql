-- The interactions that stay and share an id of the call with one that goes.
SELECT i.interaction_id
FROM interaction i
WHERE
    i.interaction_id NOT IN (SELECT g.interaction_id FROM gone_call g)
    AND EXISTS (
        SELECT 1 FROM gone_call g
        WHERE
            i.ts_us BETWEEN g.ts_us - $window AND g.ts_us + $window
            AND (i.provider_response_id = g.response_id OR (i.trace_id = g.trace_id AND i.span_id = g.span_id))
    )
