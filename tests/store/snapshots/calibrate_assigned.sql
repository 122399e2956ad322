-- $as_of = 1794000000000000
-- $control = "baseline"
-- $max_file = 7
-- $start = 0
-- Everybody in control, always: stands for `assigned` where a policy is replayed over calls from before its experiment.
select unit_id, $control as variant, 0 as by_default, cast(0 as bigint) as from_us, cast(null as bigint) as until_us
from (
  select distinct i."session_id" as unit_id
  from (
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
) i
  where i.exposed and i.file_id <= $max_file and i.ts_us >= $start and i.ts_us <= $as_of
) everybody
where unit_id is not null
