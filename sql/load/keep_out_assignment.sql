-- Takes out the assignments of this load that are older than the prune watermark, or of a forgotten unit.
DELETE FROM assignment
WHERE
    file_id >= $first
    AND (
        ts_us < $before
        OR SHA256(CONCAT($salt, ':unit:', unit_id)) IN (SELECT f.hash FROM forgotten f WHERE f.kind = 'unit')
    )
RETURNING file_id, ts_us AS at_us
