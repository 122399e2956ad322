-- Rejected lines to be tried again: all, or those of one format, or one.
SELECT q.quarantine_id, q.path, q.line, q.byte_offset, q.raw, q.reason, q.detail, q.source
FROM quarantine q
WHERE
    ($number IS NULL OR q.quarantine_id = $number)
    AND ($source IS NULL OR q.source = $source)
ORDER BY q.quarantine_id
