-- $as_of = 1794000000000000
-- $cap_0 = 0.5
-- $cap_1 = 800.0
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $stage_start_0 = 1793577600000000
-- $start = 1793491200000000
-- One row per unit, arm and stage: what it did there, added up. This is the only pass over the logs that needs much memory,
-- and all that the moments need. Calls that were not randomised have rows of their own, which do not count as evidence.
select unit_id, arm, stage as stage, not_randomised as not_randomised, count(*) as calls,
  count(head) as requests, min(ts_us) as first_us, max(ts_us) as last_us, min(head_us) as arrived_us,
  max(head_us) as last_head_us,
  cast(coalesce(sum(t0), 0) as bigint) as t0,
  count(t1) as t1,
  cast(coalesce(sum(t2), 0) as bigint) as t2,
  count(t3) as t3
from (
-- One row per model call of the experiment: who (unit), which arm, which stage, when, and what it measured. A call's arm is
-- its own variant; else what its unit was assigned at that moment; else, where logs carry no variant, the manifest it ran.
-- Rows without a unit or an arm stay, so that they can be counted.
select i."session_id" as unit_id, case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end as arm, i.ts_us, i.ts_us as head_us, 1 as head, case when i.ts_us >= $stage_start_0 then 1 else 0 end as stage, coalesce(a.by_default, 0) = 1 as not_randomised, case when abs(("i"."cost_usd")) < 1e308 then (least(("i"."cost_usd"), $cap_0)) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t0, case when abs(("i"."cost_usd")) < 1e308 then 1 end as t1, case when abs(("i"."output_tokens")) < 1e308 then (least(("i"."output_tokens"), $cap_1)) * 1000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t2, case when abs(("i"."output_tokens")) < 1e308 then 1 end as t3
from (
  select "attempt", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "output_tokens", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "output_tokens", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
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
select c.unit_key as unit_id, c.arm, c.ts_us, c.head_us, case when c.call_rank = 1 then 1 end as head, case when c.head_us >= $stage_start_0 then 1 else 0 end as stage, c.any_by_default = 1 as not_randomised, case when c.call_rank = 1 and abs(("c"."cost_usd")) < 1e308 then (least(("c"."cost_usd"), $cap_0)) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t0, case when c.call_rank = 1 and abs(("c"."cost_usd")) < 1e308 then 1 end as t1, case when c.call_rank = 1 and abs(("c"."output_tokens")) < 1e308 then (least(("c"."output_tokens"), $cap_1)) * 1000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t2, case when c.call_rank = 1 and abs(("c"."output_tokens")) < 1e308 then 1 end as t3
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
select i."session_id" as unit_key, case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end as arm, coalesce(i.request_id, i.interaction_id) as request_key, coalesce(a.by_default, 0) as by_default, i."attempt", i."cost_usd", i."interaction_id", i."model", i."output_tokens", i."surface", i."ts_us"
from (
  select "attempt", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "output_tokens", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "index_id", "interaction_id", "model", "operation", "output_tokens", "prompt_name", "prompt_sha256", "prompt_version", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
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
where unit_id is not null and arm is not null
group by unit_id, arm, stage, not_randomised
