-- $as_of = 1794000000000000
-- $max_file = 7
-- $surface = "support"
-- Calls that were answered with the help of an index, by hour: which index, and which embedding model their queries came
-- from. Calls that name neither are left out.
select index_id, embedding_model_version as version, ts_us - ts_us % 3600000000 as hour_us,
  count(*) as calls, min(ts_us) as first_us, max(ts_us) as last_us
from (
  select "attempt", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
) i
where i.file_id <= $max_file and i.ts_us <= $as_of
  and (i.index_id is not null or i.embedding_model_version is not null)
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and ($surface is null or i.surface = $surface)
group by index_id, embedding_model_version, ts_us - ts_us % 3600000000
