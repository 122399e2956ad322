-- Adds the interactions that became one call with another row, or ceased to be.
INSERT INTO load_touched
SELECT i.interaction_id, i.request_id, i.trace_id, i.provider_response_id
FROM interaction i
WHERE i.interaction_id IN (SELECT c.interaction_id FROM twin_touched c)
