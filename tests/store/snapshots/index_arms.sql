-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $stage_start_0 = 1793577600000000
-- $start = 1793491200000000
-- An experiment's calls by arm, index and embedding model: of the query, and of the index where the log says that too.
select arm, index_id, embedding_model_version as version, segment as index_version,
  count(*) as calls, min(ts_us) as first_us, max(ts_us) as last_us
from (
-- One row per model call of the experiment: who (unit), which arm, which stage, when, and what it measured. A call's arm is
-- its own variant; else what its unit was assigned at that moment; else, where logs carry no variant, the manifest it ran.
-- Rows without a unit or an arm stay, so that they can be counted.
select i."session_id" as unit_id, case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end as arm, i.ts_us, i.ts_us as head_us, 1 as head, case when i.ts_us >= $stage_start_0 then 1 else 0 end as stage, coalesce(a.by_default, 0) = 1 as not_randomised, i."model", i."prompt_name", i."prompt_version", i."prompt_sha256", i."embedding_model_version", i."index_id", i."ruleset_version", case when i."attributes" like '%index_embedding_model_version%' then i."attributes" ->> '$.index_embedding_model_version' end as segment
from (
  select "attempt", "attributes", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "attributes", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
) i
left join assigned a on a.unit_id = i."session_id" and a.from_us <= i.ts_us and (a.until_us is null or i.ts_us < a.until_us)
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and (i.experiment_id = $experiment or a.variant is not null)
  and ("i"."surface" = 'it''s "support"')
  and not (i.request_id is not null and i.request_id in (select request_id from repeated_request))
union all
-- The calls of requests that have several (calls.sql has the others). One attempt, the last or the first, has call_rank 1 and
-- stands for its request; all attempts of a request belong to the moment and stage of that one.
select c.unit_key as unit_id, c.arm, c.ts_us, c.head_us, case when c.call_rank = 1 then 1 end as head, case when c.head_us >= $stage_start_0 then 1 else 0 end as stage, c.any_by_default = 1 as not_randomised, c."model", c."prompt_name", c."prompt_version", c."prompt_sha256", c."embedding_model_version", c."index_id", c."ruleset_version", c.segment
from (
  select r.*,
    row_number() over (
      partition by r.unit_key, r.arm, r.request_key
      order by r.ts_us desc, coalesce(r.attempt, 0) desc, r.interaction_id desc
    ) as call_rank,
    max(r.ts_us) over (partition by r.unit_key, r.arm, r.request_key) as head_us,
    max(r.by_default) over (partition by r.unit_key, r.arm, r.request_key) as any_by_default
  from (
-- One row per model call of the experiment: who (unit), which arm, which stage, when, and what it measured. A call's arm is
-- its own variant; else what its unit was assigned at that moment; else, where logs carry no variant, the manifest it ran.
-- Rows without a unit or an arm stay, so that they can be counted.
select i."session_id" as unit_key, case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end as arm, coalesce(i.request_id, i.interaction_id) as request_key, coalesce(a.by_default, 0) as by_default, i."attempt", i."attributes", i."embedding_model_version", i."index_id", i."interaction_id", i."model", i."prompt_name", i."prompt_sha256", i."prompt_version", i."ruleset_version", i."surface", i."ts_us", case when i."attributes" like '%index_embedding_model_version%' then i."attributes" ->> '$.index_embedding_model_version' end as segment
from (
  select "attempt", "attributes", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "attributes", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
) i
left join assigned a on a.unit_id = i."session_id" and a.from_us <= i.ts_us and (a.until_us is null or i.ts_us < a.until_us)
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and (i.experiment_id = $experiment or a.variant is not null)
  and ("i"."surface" = 'it''s "support"')
  and i.request_id is not null and i.request_id in (select request_id from repeated_request)
  ) r
) c
) used
where index_id is not null or embedding_model_version is not null
group by arm, index_id, embedding_model_version, segment
