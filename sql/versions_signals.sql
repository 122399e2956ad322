-- One row per call: who, when, and whether each signal was there (1, 0, or NULL where the log cannot tell).
select coalesce(i."unit_id", i."interaction_id") as unit_key, i.ts_us{{ signals }}
from {{ interaction }} i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content')){{ more }}
