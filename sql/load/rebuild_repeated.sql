-- Requests with several calls, from all that was logged.
INSERT INTO repeated_request
SELECT request_id
FROM interaction
WHERE request_id IS NOT NULL
GROUP BY request_id
HAVING COUNT(*) > 1
