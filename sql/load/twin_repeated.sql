-- The provider's ids of this load that several rows carry: in a store of one source, only those can be one call.
CREATE OR REPLACE TEMP TABLE twin_repeated AS
SELECT i.provider_response_id AS k1
FROM interaction i
WHERE
    i.ts_us BETWEEN $low AND $high
    AND i.cache_hit IS DISTINCT FROM TRUE
    AND i.provider_response_id IN (
        SELECT n.provider_response_id FROM interaction n
        WHERE n.file_id >= $first AND n.provider_response_id IS NOT NULL AND n.cache_hit IS DISTINCT FROM TRUE
    )
GROUP BY i.provider_response_id
HAVING COUNT(*) > 1
