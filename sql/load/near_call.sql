-- All interactions that share a key with an open score, and which call each one is: rows of one call that several sources
-- have logged are one choice. Whether anybody saw it is what the one row
-- of the call says: a silent leg was seen by nobody.
CREATE OR REPLACE TEMP TABLE load_near AS
WITH near AS (
    SELECT i.interaction_id, i.request_id, i.variant, i.trace_id, i.span_id, i.provider_response_id, i.unit_id, i.exposed,
        i.operation
    FROM interaction i
    WHERE i.interaction_id IN (SELECT o.interaction_id FROM load_open o WHERE o.interaction_id IS NOT NULL)
    UNION
    SELECT i.interaction_id, i.request_id, i.variant, i.trace_id, i.span_id, i.provider_response_id, i.unit_id, i.exposed,
        i.operation
    FROM interaction i
    WHERE i.request_id IN (SELECT o.request_id FROM load_open o WHERE o.request_id IS NOT NULL)
    UNION
    SELECT i.interaction_id, i.request_id, i.variant, i.trace_id, i.span_id, i.provider_response_id, i.unit_id, i.exposed,
        i.operation
    FROM interaction i
    WHERE i.trace_id IN (SELECT o.trace_id FROM load_open o WHERE o.trace_id IS NOT NULL)
    UNION
    SELECT i.interaction_id, i.request_id, i.variant, i.trace_id, i.span_id, i.provider_response_id, i.unit_id, i.exposed,
        i.operation
    FROM interaction i
    WHERE
        i.provider_response_id IN (
            SELECT o.provider_response_id FROM load_open o WHERE o.provider_response_id IS NOT NULL
        )
)
SELECT
    n.interaction_id, n.request_id, n.variant, n.trace_id, n.span_id, n.provider_response_id, n.unit_id,
    COALESCE(m.exposed, n.exposed) AS exposed, n.operation, COALESCE(t.merged_id, n.interaction_id) AS call_id
FROM near n
LEFT JOIN twin t ON t.interaction_id = n.interaction_id AND t.until_file = $open
LEFT JOIN merged_interaction m ON m.interaction_id = t.merged_id AND m.until_file = $open
