-- $as_of = 1794000000000000
-- $grid = 3600000000
-- $max_file = 7
-- $origin = 0
-- $since = 3
-- $start = 0
-- Calls by what they ran (the manifest) and where, with the first and the last of each.
select i.surface, i.experiment_id, i.variant, i.prompt_name, i.prompt_version, i.prompt_sha256, i.model, i.model_version, i.system_fingerprint, i.params_sha256, i.tools_sha256, i.embedding_model_version, i.index_id, i.ruleset_version, i.exposed, cast(floor((i.ts_us - $origin) / $grid) as bigint) as hour, count(*) as calls, min(i.ts_us) as first_us, max(i.ts_us) as last_us
from -- The calls for counting versions: of a call that several sources have logged, the one row that stands for it.
(
  select surface, experiment_id, variant, prompt_name, prompt_version, prompt_sha256, model, model_version, system_fingerprint, params_sha256, tools_sha256, embedding_model_version, index_id, ruleset_version, exposed, ts_us, interaction_id, file_id
  from interaction x
  where not exists (
      select 1 from twin w where w.interaction_id = x.interaction_id and w.file_id <= $max_file and w.until_file > $max_file
    )
  union all
  select surface, experiment_id, variant, prompt_name, prompt_version, prompt_sha256, model, model_version, system_fingerprint, params_sha256, tools_sha256, embedding_model_version, index_id, ruleset_version, exposed, ts_us, interaction_id, file_id
  from merged_interaction
  where file_id <= $max_file and until_file > $max_file
) i
where i.file_id > $since and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and cast(floor((i.ts_us - $origin) / $grid) as bigint) not in (select hour from version_doubled)
group by i.surface, i.experiment_id, i.variant, i.prompt_name, i.prompt_version, i.prompt_sha256, i.model, i.model_version, i.system_fingerprint, i.params_sha256, i.tools_sha256, i.embedding_model_version, i.index_id, i.ruleset_version, i.exposed, cast(floor((i.ts_us - $origin) / $grid) as bigint)
