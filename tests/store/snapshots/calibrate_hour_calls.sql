-- $as_of = 1794000000000000
-- $control = "baseline"
-- $experiment = "sonnet-swap"
-- $grid = 3600000000
-- $max_file = 7
-- $start = 0
-- One row per unit and hour of the log: what the unit did, added up, and from which hour on that is known (scores come late).
-- Users are put into pseudo-arms again and again, so here rows of units leave SQL: whole numbers, no names.
select u.unit_no, cast(floor(r.head_us / $grid) as bigint) as bucket, cast(floor((r.head_us) / $grid) as bigint) as seen,
  count(*) as calls, count(head) as requests, min(r.ts_us) as first_us, max(r.ts_us) as last_us
from (
-- One row per model call of the experiment: who (unit), which arm, which stage, when, and what it measured. A call's arm is
-- its own variant; else what its unit was assigned at that moment; else, where logs carry no variant, the manifest it ran.
-- Rows without a unit or an arm stay, so that they can be counted.
select i."session_id" as unit_id, case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end as arm, i.ts_us, i.ts_us as head_us, 1 as head, 0 as stage, coalesce(a.by_default, 0) = 1 as not_randomised
from (
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
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
select c.unit_key as unit_id, c.arm, c.ts_us, c.head_us, case when c.call_rank = 1 then 1 end as head, 0 as stage, c.any_by_default = 1 as not_randomised
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
select i."session_id" as unit_key, case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end as arm, coalesce(i.request_id, i.interaction_id) as request_key, coalesce(a.by_default, 0) as by_default, i."attempt", i."attributes", i."cost_usd", i."format_ok", i."interaction_id", i."is_error", i."latency_ms", i."model", i."refused", i."surface", i."ts_us"
from (
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
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
) r
join calibrate_unit u on u.unit_id = r.unit_id
where r.arm = $control and not r.not_randomised
group by u.unit_no, cast(floor(r.head_us / $grid) as bigint), cast(floor((r.head_us) / $grid) as bigint)
order by 1, 3, 2
