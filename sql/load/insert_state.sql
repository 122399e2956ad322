-- How files looked; one element of each list a file. -1: no piece of it is stored.
INSERT INTO file_state (path, inode, size, mtime_ns, looked_ns, file_id, waiting)
SELECT
    s.path, s.inode, s.size, s.mtime_ns, s.looked_ns, NULLIF(s.file_id, -1), s.waiting
FROM (
    SELECT
        UNNEST($paths) AS path, UNNEST($inodes) AS inode, UNNEST($sizes) AS size, UNNEST($mtimes) AS mtime_ns,
        UNNEST($looks) AS looked_ns, UNNEST($files) AS file_id, UNNEST($waits) AS waiting
) s
