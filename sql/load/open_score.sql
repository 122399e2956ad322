-- Those that may find it now: the scores of this load, and older ones to which an interaction of this load has a key.
-- $first is the first file of the load. Old orphans cost a look at the new interactions only.
CREATE OR REPLACE TEMP TABLE load_open AS
SELECT o.*
FROM load_unresolved o
WHERE o.score_id IN (
    SELECT s.score_id
    FROM score s
    WHERE s.file_id >= $first
    UNION ALL
    SELECT u.score_id
    FROM load_unresolved u
    JOIN interaction i ON i.interaction_id = u.interaction_id
    WHERE i.file_id >= $first
    UNION ALL
    SELECT u.score_id
    FROM load_unresolved u
    JOIN interaction i ON i.request_id = u.request_id AND i.variant = u.variant
    WHERE i.file_id >= $first
    UNION ALL
    SELECT u.score_id
    FROM load_unresolved u
    JOIN interaction i ON i.trace_id = u.trace_id
    WHERE i.file_id >= $first
    UNION ALL
    SELECT u.score_id
    FROM load_unresolved u
    JOIN interaction i ON i.provider_response_id = u.provider_response_id
    WHERE i.file_id >= $first
)
