-- $arm_0 = "baseline"
-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $limit_0 = 900.0
-- $limit_1 = 1260.0
-- $max_file = 7
-- $start = 0
-- One row per unit, arm and stage: what it did there, added up. This is the only pass over the logs that needs much memory,
-- and all that the moments need. Calls that were not randomised have rows of their own, which do not count as evidence.
select unit_id, arm, 0 as stage, 1 = 0 as not_randomised, count(*) as calls,
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
select i."session_id" as unit_id, i.variant as arm, i.ts_us, i.ts_us as head_us, 1 as head, 0 as stage, 0 = 1 as not_randomised, case when ("i"."refused") then 1 end as t0, case when ("i"."refused") is not null then 1 end as t1, case when ("i"."format_ok" AND NOT "i"."is_error") then 1 end as t2, case when ("i"."format_ok" AND NOT "i"."is_error") is not null then 1 end as t3, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then (("i"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t4, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then 1 end as t5, case when abs(("i"."cost_usd")) < 1e308 and abs((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then (("i"."cost_usd")) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t6, case when abs(("i"."cost_usd")) < 1e308 and abs((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then ((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t7, case when (TRUE) then 1 end as t8, case when (TRUE) is not null then 1 end as t9, case when abs(("i"."latency_ms")) < 1e308 and ("i"."latency_ms") > (case when (i.variant) = $arm_0 then $limit_0 else $limit_1 end) then 1 end as t10, case when abs(("i"."latency_ms")) < 1e308 then 1 end as t11, cast(null as bigint) as t12, cast(null as bigint) as t13
from interaction i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and i.experiment_id = $experiment
  and true
) r
where unit_id is not null and arm is not null
group by unit_id, arm
