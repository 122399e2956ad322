-- Which interactions the open scores may mean, by key; step 1 is the surest key. n: how many different calls.
-- A trace alone decides only for a score that names no interaction: one that does is still waiting for it.
CREATE OR REPLACE TEMP TABLE load_candidate AS
WITH answer AS (
    -- What a request or a trace can be judged for: an answer, no embeddings call; one that somebody saw comes first.
    SELECT interaction_id, call_id, request_id, variant, trace_id, unit_id, exposed
    FROM load_near
    WHERE operation IS NULL OR operation IN ('chat', 'text_completion', 'generate_content')
),
candidate AS (
    SELECT o.score_id, 1 AS step, i.interaction_id, i.call_id
    FROM load_open o
    JOIN load_near i ON i.interaction_id = o.interaction_id
    UNION ALL
    SELECT o.score_id, 2 AS step, i.interaction_id, i.call_id
    FROM load_open o
    JOIN answer i ON i.exposed AND i.request_id = o.request_id AND i.variant = o.variant
    UNION ALL
    SELECT o.score_id, 3 AS step, i.interaction_id, i.call_id
    FROM load_open o
    JOIN load_near i ON i.trace_id = o.trace_id AND i.span_id = o.span_id
    UNION ALL
    SELECT o.score_id, 4 AS step, i.interaction_id, i.call_id
    FROM load_open o
    JOIN load_near i ON i.provider_response_id = o.provider_response_id
    UNION ALL
    SELECT o.score_id, 5 AS step, i.interaction_id, i.call_id
    FROM load_open o
    JOIN answer i ON i.exposed AND i.trace_id = o.trace_id
    WHERE o.interaction_id IS NULL
    UNION ALL
    -- Attempts of one unit's request are one target after all: any of them gives the same sums per request.
    SELECT o.score_id, 6 AS step, MIN(i.interaction_id) AS interaction_id, MIN(i.call_id) AS call_id
    FROM load_open o
    JOIN answer i ON i.exposed AND i.request_id = o.request_id AND i.variant = o.variant
    GROUP BY o.score_id, i.unit_id
    UNION ALL
    SELECT o.score_id, 7 AS step, i.interaction_id, i.call_id
    FROM load_open o
    JOIN answer i ON NOT i.exposed AND i.request_id = o.request_id AND i.variant = o.variant
    WHERE NOT EXISTS (
        SELECT 1 FROM answer e WHERE e.exposed AND e.request_id = o.request_id AND e.variant = o.variant
    )
    UNION ALL
    SELECT o.score_id, 8 AS step, i.interaction_id, i.call_id
    FROM load_open o
    JOIN answer i ON NOT i.exposed AND i.trace_id = o.trace_id
    WHERE
        o.interaction_id IS NULL
        AND NOT EXISTS (SELECT 1 FROM answer e WHERE e.exposed AND e.trace_id = o.trace_id)
)
SELECT
    score_id, step, MIN(interaction_id) AS interaction_id, COUNT(DISTINCT call_id) AS n, MIN(call_id) AS low_id,
    MAX(call_id) AS high_id
FROM candidate
GROUP BY score_id, step
