-- Removes the calls of gone_call and the scores of gone_score, and what was derived from them. Statements are cut at the
-- semicolons.
DELETE FROM merged_interaction
WHERE
    interaction_id IN (
        SELECT t.merged_id FROM twin t WHERE t.interaction_id IN (SELECT g.interaction_id FROM gone_call g)
    );
DELETE FROM twin
WHERE
    merged_id IN (
        SELECT t.merged_id FROM twin t WHERE t.interaction_id IN (SELECT g.interaction_id FROM gone_call g)
    );
DELETE FROM twin_conflict
WHERE
    id_a IN (SELECT g.interaction_id FROM gone_call g) OR id_b IN (SELECT g.interaction_id FROM gone_call g);
DELETE FROM interaction_text
WHERE interaction_id IN (SELECT g.interaction_id FROM gone_call g);
DELETE FROM interaction
WHERE interaction_id IN (SELECT g.interaction_id FROM gone_call g);
DELETE FROM score
WHERE
    EXISTS (
        SELECT 1 FROM gone_score g WHERE g.score_id = score.score_id AND g.updated_us IS NOT DISTINCT FROM score.updated_us
    );
DELETE FROM score_target
WHERE score_id NOT IN (SELECT s.score_id FROM score s);
DELETE FROM ambiguous_score
WHERE score_id NOT IN (SELECT s.score_id FROM score s);
DELETE FROM repeated_request
WHERE request_id NOT IN (SELECT i.request_id FROM interaction i WHERE i.request_id IS NOT NULL);
DELETE FROM scan_state
