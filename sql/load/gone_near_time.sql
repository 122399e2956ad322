-- The interactions that stay and may have been one call with one that goes: those within the window after the time.
SELECT i.interaction_id
FROM interaction i
WHERE
    i.ts_us BETWEEN $before AND $before + $window
    AND (i.provider_response_id IS NOT NULL OR (i.trace_id IS NOT NULL AND i.span_id IS NOT NULL))
