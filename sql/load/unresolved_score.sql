-- All scores whose interaction is not known.
CREATE OR REPLACE TEMP TABLE load_unresolved AS
SELECT DISTINCT s.score_id, s.interaction_id, s.request_id, s.variant, s.trace_id, s.span_id, s.provider_response_id
FROM score s
WHERE NOT EXISTS (SELECT 1 FROM score_target t WHERE t.score_id = s.score_id)
