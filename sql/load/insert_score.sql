-- Stores the staged scores that are new.
INSERT INTO score (
    score_id, ts_us, name, scorer_kind, value, label, scorer_id, label_probability, updated_us, interaction_id,
    request_id, variant, trace_id, span_id, provider_response_id, explanation, error_type, source, file_id
)
SELECT
    s.score_id, s.ts_us, s.name, s.scorer_kind, s.value, s.label, s.scorer_id, s.label_probability, s.updated_us,
    s.interaction_id, s.request_id, s.variant, s.trace_id, s.span_id, s.provider_response_id, s.explanation,
    s.error_type, s.source, s.file_id
FROM load_score s
WHERE NOT EXISTS (SELECT 1 FROM load_known k WHERE k.pos = s.rowid)
