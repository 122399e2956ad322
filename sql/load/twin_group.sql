-- The members of each call in the order in which they are believed: who names the variant, who names the unit, then the
-- source (own records, tracing in the application, gateways, the provider's objects), then the id. The first gives the id.
CREATE OR REPLACE TEMP TABLE twin_group AS
WITH ranked AS (
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
SELECT r.interaction_id, first.interaction_id AS merged_id, r.nth
FROM ranked r
JOIN ranked first ON first.component = r.component AND first.nth = 1
