-- Requests that have several calls now, one of them at least new: only these need their attempts ranked.
INSERT INTO repeated_request
SELECT n.request_id
FROM (
    SELECT request_id, COUNT(*) AS calls
    FROM interaction
    WHERE file_id >= $first AND request_id IS NOT NULL
    GROUP BY request_id
) n
LEFT JOIN (
    SELECT DISTINCT request_id
    FROM interaction
    WHERE
        file_id < $first
        AND request_id IN (SELECT request_id FROM interaction WHERE file_id >= $first)
) o ON o.request_id = n.request_id
WHERE
    (n.calls > 1 OR o.request_id IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM repeated_request r WHERE r.request_id = n.request_id)
