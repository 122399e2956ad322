-- The scores before a time, and the later ones of calls before it.
CREATE OR REPLACE TEMP TABLE gone_score AS
SELECT s.score_id, s.updated_us
FROM score s
WHERE
    COALESCE(s.updated_us, s.ts_us) < $before
    OR s.score_id IN (
        SELECT t.score_id FROM score_target t WHERE t.interaction_id IN (SELECT g.interaction_id FROM gone_call g)
    )
