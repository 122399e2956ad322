-- The scores of these calls: those that were ever found to mean one, and those that mean none or several so far and share
-- a key with one.
CREATE OR REPLACE TEMP TABLE gone_score AS
SELECT s.score_id, s.updated_us
FROM score s
WHERE
    s.score_id IN (
        SELECT t.score_id FROM score_target t WHERE t.interaction_id IN (SELECT g.interaction_id FROM gone_call g)
    )
    OR s.interaction_id IN (SELECT g.interaction_id FROM gone_call g)
    OR (
        s.score_id NOT IN (SELECT t.score_id FROM score_target t WHERE t.until_file = 4611686018427387904)
        AND (
            s.request_id IN (SELECT g.request_id FROM gone_call g)
            OR s.trace_id IN (SELECT g.trace_id FROM gone_call g)
            OR s.provider_response_id IN (SELECT g.response_id FROM gone_call g)
        )
    )
