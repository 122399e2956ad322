-- The staged scores that are not new: stored already (load_match), or a repeat of an earlier line of the load.
-- differs: the columns in which such a row disagrees with the one that counts; empty for a plain duplicate.
CREATE OR REPLACE TEMP TABLE load_known AS
WITH repeated AS (
    SELECT score_id, updated_us, MIN(rowid) AS pos
    FROM load_score
    GROUP BY score_id, updated_us
    HAVING COUNT(*) > 1
),
counts AS (
    SELECT
        CAST(-1 AS BIGINT) AS pos,
        t.score_id, t.ts_us, t.name, t.scorer_kind, t.value, t.label, t.scorer_id, t.label_probability, t.updated_us,
        t.interaction_id, t.request_id, t.variant, t.trace_id, t.span_id, t.provider_response_id, t.explanation,
        t.error_type
    FROM score t
    JOIN load_match m ON m.row_id = t.rowid
    UNION ALL
    SELECT
        l.rowid AS pos,
        l.score_id, l.ts_us, l.name, l.scorer_kind, l.value, l.label, l.scorer_id, l.label_probability, l.updated_us,
        l.interaction_id, l.request_id, l.variant, l.trace_id, l.span_id, l.provider_response_id, l.explanation,
        l.error_type
    FROM load_score l
    JOIN repeated r ON r.pos = l.rowid
    WHERE NOT EXISTS (
        SELECT 1 FROM load_match m
        WHERE m.score_id = l.score_id AND m.updated_us IS NOT DISTINCT FROM l.updated_us
    )
)
SELECT
    s.rowid AS pos, s.place, s.size, s.file_id, s.line, s.byte_offset, s.source,
    CONCAT_WS(
        ', ',
        CASE WHEN s.ts_us IS DISTINCT FROM c.ts_us THEN 'ts' END,
        CASE WHEN s.name IS DISTINCT FROM c.name THEN 'name' END,
        CASE WHEN s.scorer_kind IS DISTINCT FROM c.scorer_kind THEN 'scorer_kind' END,
        CASE WHEN s.value IS DISTINCT FROM c.value THEN 'value' END,
        CASE WHEN s.label IS DISTINCT FROM c.label THEN 'label' END,
        CASE WHEN s.scorer_id IS DISTINCT FROM c.scorer_id THEN 'scorer_id' END,
        CASE WHEN s.label_probability IS DISTINCT FROM c.label_probability THEN 'label_probability' END,
        CASE WHEN s.interaction_id IS DISTINCT FROM c.interaction_id THEN 'interaction_id' END,
        CASE WHEN s.request_id IS DISTINCT FROM c.request_id THEN 'request_id' END,
        CASE WHEN s.variant IS DISTINCT FROM c.variant THEN 'variant' END,
        CASE WHEN s.trace_id IS DISTINCT FROM c.trace_id THEN 'trace_id' END,
        CASE WHEN s.span_id IS DISTINCT FROM c.span_id THEN 'span_id' END,
        CASE WHEN s.provider_response_id IS DISTINCT FROM c.provider_response_id THEN 'provider_response_id' END,
        CASE WHEN s.explanation IS DISTINCT FROM c.explanation THEN 'explanation' END,
        CASE WHEN s.error_type IS DISTINCT FROM c.error_type THEN 'error_type' END
    ) AS differs
FROM load_score s
JOIN counts c ON c.score_id = s.score_id AND c.updated_us IS NOT DISTINCT FROM s.updated_us
WHERE s.rowid > c.pos
