-- Around which times rows with the provider's id are searched: those of the new ones. NULL: there are none.
SELECT MIN(i.ts_us) AS low, MAX(i.ts_us) AS high
FROM interaction i
WHERE i.file_id >= $first AND i.provider_response_id IS NOT NULL AND i.cache_hit IS DISTINCT FROM TRUE
