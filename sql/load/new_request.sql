-- The requests of the calls that a load has stored.
CREATE OR REPLACE TEMP TABLE load_request AS
SELECT DISTINCT request_id
FROM interaction
WHERE file_id >= $first AND request_id IS NOT NULL
