-- Takes out the scores of this load that are older than the prune watermark, or name a forgotten call.
DELETE FROM score
WHERE
    file_id >= $first
    AND (
        COALESCE(updated_us, ts_us) < $before
        OR SHA256(CONCAT($salt, ':call:', interaction_id)) IN (SELECT f.hash FROM forgotten f WHERE f.kind = 'call')
        OR SHA256(CONCAT($salt, ':response:', provider_response_id)) IN (SELECT f.hash FROM forgotten f WHERE f.kind = 'response')
        OR SHA256(CONCAT($salt, ':request:', request_id)) IN (SELECT f.hash FROM forgotten f WHERE f.kind = 'request')
        OR SHA256(CONCAT($salt, ':trace:', trace_id)) IN (SELECT f.hash FROM forgotten f WHERE f.kind = 'trace')
    )
RETURNING file_id, COALESCE(updated_us, ts_us) AS at_us
