-- The members of each call in the order in which they are believed: who names the variant, who names the unit, then the
-- source (own records, tracing in the application, gateways, the provider's objects), then the id. The first gives the id.
-- A silent leg that nobody else has logged is a call of one row. leg_request: see twin_leg; of a row that was not looked
-- at, what is known so far.
CREATE OR REPLACE TEMP TABLE twin_group AS
WITH leg AS (
    SELECT l.interaction_id, l.leg_request
    FROM twin_leg l
    WHERE l.interaction_id IN (SELECT a.interaction_id FROM twin_area a)
    UNION ALL
    SELECT t.interaction_id, t.leg_request
    FROM twin t
    WHERE
        t.until_file = $open AND t.leg_request IS NOT NULL
        AND t.interaction_id IN (SELECT a.interaction_id FROM twin_area a)
        AND t.interaction_id NOT IN (SELECT r.interaction_id FROM leg_row r)
),
ranked AS (
    SELECT
        c.interaction_id, c.component,
        ROW_NUMBER() OVER (
            PARTITION BY c.component
            ORDER BY
                CASE WHEN a.variant IS NULL THEN 1 ELSE 0 END,
                CASE WHEN a.unit_id IS NULL THEN 1 ELSE 0 END,
                CASE
                    WHEN a.source = 'native' THEN 0
                    WHEN a.source IN ('otel', 'openinference', 'langfuse', 'langsmith', 'mlflow') THEN 1
                    WHEN a.source IN ('litellm', 'map_helicone', 'map_envoy_ai_gateway') THEN 3
                    WHEN a.source IN ('openai', 'anthropic') THEN 4
                    ELSE 2
                END,
                a.source, a.interaction_id
        ) AS nth
    FROM twin_component c
    JOIN twin_area a ON a.interaction_id = c.interaction_id
    WHERE c.one_a_source AND c.one_arm
)
SELECT r.interaction_id, first.interaction_id AS merged_id, r.nth, l.leg_request
FROM ranked r
JOIN ranked first ON first.component = r.component AND first.nth = 1
LEFT JOIN leg l ON l.interaction_id = r.interaction_id
UNION ALL
SELECT l.interaction_id, l.interaction_id AS merged_id, 1 AS nth, l.leg_request
FROM leg l
WHERE l.interaction_id NOT IN (SELECT r.interaction_id FROM ranked r)
