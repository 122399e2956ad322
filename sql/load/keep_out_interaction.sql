-- Takes out the calls of this load that are older than the prune watermark, or belong to a forgotten unit: by its id, or
-- (a row that names no unit) by an id of a forgotten call. Returns file_id and time.
DELETE FROM interaction
WHERE
    file_id >= $first
    AND (
        ts_us < $before
        OR SHA256(CONCAT($salt, ':unit:', COALESCE(unit_id, session_id))) IN (SELECT f.hash FROM forgotten f WHERE f.kind = 'unit')
        OR (
            unit_id IS NULL
            AND (
                SHA256(CONCAT($salt, ':call:', interaction_id)) IN (SELECT f.hash FROM forgotten f WHERE f.kind = 'call')
                OR (
                    provider_response_id IS NOT NULL AND cache_hit IS DISTINCT FROM TRUE
                    AND SHA256(CONCAT($salt, ':response:', provider_response_id)) IN (
                        SELECT f.hash FROM forgotten f WHERE f.kind = 'response'
                    )
                )
                OR (
                    trace_id IS NOT NULL AND span_id IS NOT NULL
                    AND SHA256(CONCAT($salt, ':span:', trace_id, '/', span_id)) IN (
                        SELECT f.hash FROM forgotten f WHERE f.kind = 'span'
                    )
                )
            )
        )
    )
RETURNING file_id, ts_us AS at_us
