-- Around which times silent legs are searched: those of the gateway's new rows that have a trace. NULL: there are none.
SELECT MIN(i.ts_us) AS low, MAX(i.ts_us) AS high
FROM interaction i
WHERE i.file_id >= $first AND i.source = 'litellm' AND i.exposed AND i.trace_id IS NOT NULL
