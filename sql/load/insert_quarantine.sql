-- Quarantines what was rejected. A bad line of a file that is read again (it grew) is kept once.
INSERT INTO quarantine (
    quarantine_id, file_id, path, line, byte_offset, raw, reason, detail, source, at_us
)
WITH spooled AS (
    SELECT
        q.nth, q.file_id, q.path, q.line, q.byte_offset, FROM_BASE64(q.raw) AS raw, q.reason, q.detail, q.source
    FROM read_json(
        $spool, format = 'newline_delimited', auto_detect = FALSE, maximum_object_size = $longest,
        columns = {
            'nth': 'BIGINT', 'file_id': 'BIGINT', 'path': 'VARCHAR', 'line': 'BIGINT', 'byte_offset': 'BIGINT',
            'raw': 'VARCHAR', 'reason': 'VARCHAR', 'detail': 'VARCHAR', 'source': 'VARCHAR'
        }
    ) q
)
SELECT
    (SELECT COALESCE(MAX(k.quarantine_id), 0) FROM quarantine k) + ROW_NUMBER() OVER (ORDER BY s.nth),
    s.file_id, s.path, s.line, s.byte_offset, s.raw, s.reason, s.detail, s.source, $at_us
FROM spooled s
WHERE NOT EXISTS (
    SELECT 1 FROM quarantine k
    WHERE
        k.path = s.path AND k.byte_offset = s.byte_offset AND k.reason = s.reason AND k.raw = s.raw
        AND k.detail IS NOT DISTINCT FROM s.detail
)
