-- The scores whose interaction has to be looked for: those of this load, and older ones that share a key with an
-- interaction of this load, or with one that another source has logged too since this load (load_touched). Also those
-- that have found one: a later interaction may be a surer target, or make the choice ambiguous.
-- $first is the first file of the load. All versions of a score are looked at, a correction may name its target better.
CREATE OR REPLACE TEMP TABLE load_open AS
SELECT DISTINCT s.score_id, s.interaction_id, s.request_id, s.variant, s.trace_id, s.span_id, s.provider_response_id
FROM score s
WHERE s.score_id IN (
    SELECT n.score_id
    FROM score n
    WHERE n.file_id >= $first
    UNION ALL
    SELECT o.score_id
    FROM score o
    WHERE o.interaction_id IN (SELECT t.interaction_id FROM load_touched t)
    UNION ALL
    SELECT o.score_id
    FROM score o
    WHERE o.request_id IN (SELECT t.request_id FROM load_touched t WHERE t.request_id IS NOT NULL)
    UNION ALL
    SELECT o.score_id
    FROM score o
    WHERE o.trace_id IN (SELECT t.trace_id FROM load_touched t WHERE t.trace_id IS NOT NULL)
    UNION ALL
    SELECT o.score_id
    FROM score o
    WHERE
        o.provider_response_id IN (
            SELECT t.provider_response_id FROM load_touched t WHERE t.provider_response_id IS NOT NULL
        )
)
