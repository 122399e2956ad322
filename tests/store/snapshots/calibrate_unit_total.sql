-- $arm_0 = "baseline"
-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $limit_0 = 900.0
-- $limit_1 = 1260.0
-- $max_file = 7
-- $start = 0
-- One row per unit, arm and stage: what it did there, added up. This is the only pass over the logs that needs much memory,
-- and all that the moments need. Calls that were not randomised have rows of their own, which do not count as evidence.
select unit_id, arm, 0 as stage, not_randomised as not_randomised, count(*) as calls,
  count(head) as requests, min(ts_us) as first_us, max(ts_us) as last_us, min(head_us) as arrived_us,
  max(head_us) as last_head_us,
  count(t0) as t0,
  count(t1) as t1,
  count(t2) as t2,
  count(t3) as t3,
  cast(coalesce(sum(t4), 0) as bigint) as t4,
  count(t5) as t5,
  cast(coalesce(sum(t6), 0) as bigint) as t6,
  cast(coalesce(sum(t7), 0) as bigint) as t7,
  count(t8) as t8,
  count(t9) as t9,
  count(t10) as t10,
  count(t11) as t11,
  cast(coalesce(sum(t12), 0) as bigint) as t12,
  cast(coalesce(sum(t13), 0) as bigint) as t13
from (
-- One row per model call of the experiment: who (unit), which arm, which stage, when, and what it measured. A call's arm is
-- its own variant; else what its unit was assigned at that moment; else, where logs carry no variant, the manifest it ran.
-- Rows without a unit or an arm stay, so that they can be counted.
select i."session_id" as unit_id, case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end as arm, i.ts_us, i.ts_us as head_us, 1 as head, 0 as stage, coalesce(a.by_default, 0) = 1 as not_randomised, case when ("i"."refused") then 1 end as t0, case when ("i"."refused") is not null then 1 end as t1, case when ("i"."format_ok" AND NOT "i"."is_error") then 1 end as t2, case when ("i"."format_ok" AND NOT "i"."is_error") is not null then 1 end as t3, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then (("i"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t4, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then 1 end as t5, case when abs(("i"."cost_usd")) < 1e308 and abs((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then (("i"."cost_usd")) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t6, case when abs(("i"."cost_usd")) < 1e308 and abs((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then ((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t7, case when (TRUE) then 1 end as t8, case when (TRUE) is not null then 1 end as t9, case when abs(("i"."latency_ms")) < 1e308 and ("i"."latency_ms") > (case when (case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end) = $arm_0 then $limit_0 else $limit_1 end) then 1 end as t10, case when abs(("i"."latency_ms")) < 1e308 then 1 end as t11, s.sx6 as t12, s.sy6 as t13
from (
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
) i
left join assigned a on a.unit_id = i."session_id" and a.from_us <= i.ts_us and (a.until_us is null or i.ts_us < a.until_us)
left join scored s on s.interaction_id = i.interaction_id
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
select c.unit_key as unit_id, c.arm, c.ts_us, c.head_us, case when c.call_rank = 1 then 1 end as head, 0 as stage, c.any_by_default = 1 as not_randomised, case when c.call_rank = 1 and ("c"."refused") then 1 end as t0, case when c.call_rank = 1 and ("c"."refused") is not null then 1 end as t1, case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") then 1 end as t2, case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") is not null then 1 end as t3, case when abs(("c"."latency_ms" / NULLIF((1000), 0))) < 1e308 then (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t4, case when abs(("c"."latency_ms" / NULLIF((1000), 0))) < 1e308 then 1 end as t5, case when c.call_rank = 1 and abs(("c"."cost_usd")) < 1e308 and abs((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then (("c"."cost_usd")) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t6, case when c.call_rank = 1 and abs(("c"."cost_usd")) < 1e308 and abs((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then ((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t7, case when c.call_rank = 1 and (TRUE) then 1 end as t8, case when c.call_rank = 1 and (TRUE) is not null then 1 end as t9, case when c.call_rank = 1 and abs(("c"."latency_ms")) < 1e308 and ("c"."latency_ms") > (case when c.arm = $arm_0 then $limit_0 else $limit_1 end) then 1 end as t10, case when c.call_rank = 1 and abs(("c"."latency_ms")) < 1e308 then 1 end as t11, s.sx6 as t12, s.sy6 as t13
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
left join scored s on s.interaction_id = c.interaction_id
) r
where unit_id is not null and arm is not null
group by unit_id, arm, not_randomised
