-- $as_of = 1794000000000000
-- $experiment_0 = "sonnet-swap"
-- $max_file = 7
-- The calls of some experiments, with the columns that their analyses read: kept once, so that the many readings of an analysis
-- do not each go through all the logs. Of an experiment whose older calls are known only those that are newer are wanted.
select i."attempt", i."attributes", i."cost_usd", i."embedding_model_version", i."experiment_id", i."exposed", i."file_id", i."format_ok", i."index_id", i."interaction_id", i."is_error", i."latency_ms", i."model", i."operation", i."prompt_name", i."prompt_sha256", i."prompt_version", i."refused", i."request_id", i."ruleset_version", i."session_id", i."surface", i."ts_us", i."unit_id", i."variant"
from (
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
) i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us <= $as_of
  and (i.experiment_id in ($experiment_0))
