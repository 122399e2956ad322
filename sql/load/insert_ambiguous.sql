-- The open scores that fit several calls: by their surest key that fits any.
INSERT INTO ambiguous_score (score_id, calls, detail)
SELECT
    c.score_id, c.n,
    CONCAT(
        c.n, ' calls fit by ',
        CASE
            WHEN c.step = 1 THEN 'interaction_id'
            WHEN c.step IN (2, 6, 7) THEN 'request_id and variant'
            WHEN c.step = 3 THEN 'trace_id and span_id'
            WHEN c.step = 4 THEN 'provider_response_id'
            ELSE 'trace_id'
        END,
        ': ', c.low_id, CASE WHEN c.n > 2 THEN ', ... ' ELSE ', ' END, c.high_id
    ) AS detail
FROM load_candidate c
JOIN (
    SELECT u.score_id, MIN(u.step) AS step
    FROM load_candidate u
    WHERE u.score_id NOT IN (SELECT f.score_id FROM load_found f)
    GROUP BY u.score_id
) best ON best.score_id = c.score_id AND best.step = c.step
