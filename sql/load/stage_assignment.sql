-- Reads validated assignments, in the order of their lines. Keys with an underscore are the loader's: "_s" and "_n"
-- place and size of the record in the spool, "_f" file, "_l" line, "_o" byte offset, "_x" source, "_t" time.
CREATE OR REPLACE TEMP TABLE load_assignment AS
SELECT
    "_s" AS place, "_n" AS size, COALESCE("_f", $file_id) AS file_id, "_l" AS line, "_o" AS byte_offset,
    COALESCE("_x", $source) AS source, experiment_id, unit_id, variant, "_t" AS ts_us, reason, ruleset_version, provider
FROM read_json(
    $spool, format = 'newline_delimited', auto_detect = FALSE, maximum_object_size = $longest,
    columns = {
        '_s': 'BIGINT', '_n': 'BIGINT', '_f': 'BIGINT', '_l': 'BIGINT', '_o': 'BIGINT', '_x': 'VARCHAR',
        '_t': 'BIGINT', 'experiment_id': 'VARCHAR', 'unit_id': 'VARCHAR', 'variant': 'VARCHAR', 'reason': 'VARCHAR',
        'ruleset_version': 'VARCHAR', 'provider': 'VARCHAR'
    }
)
