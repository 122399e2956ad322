-- Pairs of rows that share an id of the call within the window. strength: which ids (3 both, 2 trace and span, 1 the
-- provider's); same_arm: whether both may be one call, which two legs of a shadow pair are not. Rows of one source are a
-- pair by the provider's id only, and only when they were under way at the same time: in one trace (an instrumentation's
-- span around the SDK's own), or one within the other (two OpenInference instrumentations, each with its own trace).
CREATE OR REPLACE TEMP TABLE twin_pair AS
WITH shared AS (
    SELECT a.interaction_id AS id_a, b.interaction_id AS id_b, SUM(a.kind) AS strength
    FROM twin_key a
    JOIN twin_key b
        ON b.kind = a.kind AND b.k1 = a.k1 AND b.k2 = a.k2 AND b.interaction_id <> a.interaction_id
        AND b.ts_us BETWEEN a.ts_us - $window AND a.ts_us + $window
    WHERE a.crowd <= $crowd AND b.crowd <= $crowd AND (b.source <> a.source OR a.kind = 1)
    GROUP BY a.interaction_id, b.interaction_id
)
SELECT
    s.id_a, s.id_b, a.source AS source_a, b.source AS source_b, s.strength, ABS(a.ts_us - b.ts_us) AS apart,
    a.variant IS NULL OR b.variant IS NULL
    OR (a.variant = b.variant AND COALESCE(a.experiment_id = b.experiment_id, TRUE)) AS same_arm
FROM shared s
JOIN twin_area a ON a.interaction_id = s.id_a
JOIN twin_area b ON b.interaction_id = s.id_b
WHERE
    a.source <> b.source
    OR (a.trace_id = b.trace_id AND a.ts_us <= b.end_us AND b.ts_us <= a.end_us)
    OR (
        a.source = 'openinference'
        AND (
            (a.ts_us <= b.ts_us + $slack AND b.end_us <= a.end_us + $slack)
            OR (b.ts_us <= a.ts_us + $slack AND a.end_us <= b.end_us + $slack)
        )
    )
