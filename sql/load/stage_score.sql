-- Reads validated scores, in the order of their lines. Keys with an underscore are the loader's: "_s" and "_n" place
-- and size of the record in the spool, "_f" file, "_l" line, "_o" byte offset, "_x" source, "_t" time, "_u" time of the
-- update.
CREATE OR REPLACE TEMP TABLE load_score AS
SELECT
    "_s" AS place, "_n" AS size, COALESCE("_f", $file_id) AS file_id, "_l" AS line, "_o" AS byte_offset,
    COALESCE("_x", $source) AS source, score_id, "_t" AS ts_us, name, scorer_kind, value, label, scorer_id,
    label_probability, "_u" AS updated_us, interaction_id, request_id, variant, trace_id, span_id,
    provider_response_id, explanation, error_type
FROM read_json(
    $spool, format = 'newline_delimited', auto_detect = FALSE, maximum_object_size = $longest,
    columns = {
        '_s': 'BIGINT', '_n': 'BIGINT', '_f': 'BIGINT', '_l': 'BIGINT', '_o': 'BIGINT', '_x': 'VARCHAR',
        '_t': 'BIGINT', '_u': 'BIGINT', 'score_id': 'VARCHAR', 'name': 'VARCHAR', 'scorer_kind': 'VARCHAR',
        'value': 'DOUBLE', 'label': 'VARCHAR', 'scorer_id': 'VARCHAR', 'label_probability': 'DOUBLE',
        'interaction_id': 'VARCHAR', 'request_id': 'VARCHAR', 'variant': 'VARCHAR', 'trace_id': 'VARCHAR',
        'span_id': 'VARCHAR', 'provider_response_id': 'VARCHAR', 'explanation': 'VARCHAR', 'error_type': 'VARCHAR'
    }
)
