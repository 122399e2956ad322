-- The interactions for whose scores something may be new: those of this load, and those that became one call with
-- another row, or ceased to be (touched_twin). $first is the first file of the load.
CREATE OR REPLACE TEMP TABLE load_touched AS
SELECT i.interaction_id, i.request_id, i.trace_id, i.provider_response_id
FROM interaction i
WHERE i.file_id >= $first
