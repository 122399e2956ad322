-- The looked-at rows that are a leg now and were none, or the other way round, or share another request.
CREATE OR REPLACE TEMP TABLE twin_seed AS
SELECT r.interaction_id
FROM leg_row r
LEFT JOIN twin_leg l ON l.interaction_id = r.interaction_id
LEFT JOIN twin t ON t.interaction_id = r.interaction_id AND t.until_file = $open
WHERE l.leg_request IS DISTINCT FROM t.leg_request
