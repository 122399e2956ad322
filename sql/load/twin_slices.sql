-- Cuts the new interactions that carry an id of the call into parts of about $size rows by time, so that a large load is
-- searched in bounded memory. low and high are the times of a part, both included.
SELECT MIN(p.ts_us) AS low, MAX(p.ts_us) AS high
FROM (
    SELECT n.ts_us, CAST(FLOOR((ROW_NUMBER() OVER (ORDER BY n.ts_us) - 1) / CAST($size AS DOUBLE)) AS BIGINT) AS part
    FROM interaction n
    WHERE
        n.file_id >= $first
        AND (n.provider_response_id IS NOT NULL OR (n.trace_id IS NOT NULL AND n.span_id IS NOT NULL))
) p
GROUP BY p.part
ORDER BY low
