-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $start = 0
-- An experiment's calls by arm, index and embedding model: of the query, and of the index where the log says that too.
select arm, index_id, embedding_model_version as version, segment as index_version,
  count(*) as calls, min(ts_us) as first_us, max(ts_us) as last_us
from (
-- One row per model call of the experiment: who (unit), which arm, which stage, when, and what it measured. A call's arm is
-- its own variant; else what its unit was assigned at that moment; else, where logs carry no variant, the manifest it ran.
-- Rows without a unit or an arm stay, so that they can be counted.
select i."session_id" as unit_id, i.variant as arm, i.ts_us, i.ts_us as head_us, 1 as head, 0 as stage, 0 = 1 as not_randomised, i."model", i."prompt_name", i."prompt_version", i."prompt_sha256", i."embedding_model_version", i."index_id", i."ruleset_version", case when i."attributes" like '%index_embedding_model_version%' then i."attributes" ->> '$.index_embedding_model_version' end as segment
from interaction i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and i.experiment_id = $experiment
  and true
) used
where index_id is not null or embedding_model_version is not null
group by arm, index_id, embedding_model_version, segment
