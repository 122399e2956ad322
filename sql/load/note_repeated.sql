-- Requests of the load (load_request) that have several calls in the store: only these need their attempts ranked.
INSERT INTO repeated_request
SELECT i.request_id
FROM interaction i
JOIN load_request n ON n.request_id = i.request_id
WHERE NOT EXISTS (SELECT 1 FROM repeated_request r WHERE r.request_id = i.request_id)
GROUP BY i.request_id
HAVING COUNT(*) > 1
