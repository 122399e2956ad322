-- Salted hashes of the ids of forgotten calls, so that their other rows and their scores stay out.
INSERT INTO forgotten (kind, hash, at_us)
SELECT 'call', SHA256(CONCAT($salt, ':call:', g.interaction_id)), $at_us
FROM gone_call g
UNION
SELECT 'response', SHA256(CONCAT($salt, ':response:', g.response_id)), $at_us
FROM gone_call g
WHERE g.response_id IS NOT NULL
UNION
SELECT 'span', SHA256(CONCAT($salt, ':span:', g.trace_id, '/', g.span_id)), $at_us
FROM gone_call g
WHERE g.trace_id IS NOT NULL AND g.span_id IS NOT NULL
UNION
SELECT 'trace', SHA256(CONCAT($salt, ':trace:', g.trace_id)), $at_us
FROM gone_call g
WHERE g.trace_id IS NOT NULL AND g.trace_id NOT IN (
    SELECT i.trace_id FROM interaction i
    WHERE i.trace_id IS NOT NULL AND i.interaction_id NOT IN (SELECT h.interaction_id FROM gone_call h)
)
UNION
SELECT 'request', SHA256(CONCAT($salt, ':request:', g.request_id)), $at_us
FROM gone_call g
WHERE g.request_id IS NOT NULL AND g.request_id NOT IN (
    SELECT i.request_id FROM interaction i
    WHERE i.request_id IS NOT NULL AND i.interaction_id NOT IN (SELECT h.interaction_id FROM gone_call h)
)
