-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $grid = 21600000000
-- $limit_0 = 900.0
-- $limit_1 = 1260.0
-- $max_file = 7
-- $stage_start_0 = 1793577600000000
-- $start = 1793491200000000
-- One row per unit, arm, stage and stretch of time with what the unit had accumulated in that arm and stage after it (a*) and
-- before it (b*): from these every cumulative sum and every pair moment over time follows without a second scan.
with steps as (
  select unit_id, arm, stage, cast(floor(head_us / $grid) as bigint) as bucket, count(head) as requests,
    count(*) as calls,
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
select i."session_id" as unit_id, case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end as arm, i.ts_us, i.ts_us as head_us, 1 as head, case when i.ts_us >= $stage_start_0 then 1 else 0 end as stage, coalesce(a.by_default, 0) = 1 as not_randomised, case when ("i"."refused") then 1 end as t0, case when ("i"."refused") is not null then 1 end as t1, case when ("i"."format_ok" AND NOT "i"."is_error") then 1 end as t2, case when ("i"."format_ok" AND NOT "i"."is_error") is not null then 1 end as t3, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then (("i"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t4, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then 1 end as t5, case when abs(("i"."cost_usd")) < 1e308 and abs((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then (("i"."cost_usd")) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t6, case when abs(("i"."cost_usd")) < 1e308 and abs((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then ((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t7, case when (TRUE) then 1 end as t8, case when (TRUE) is not null then 1 end as t9, case when abs(("i"."latency_ms")) < 1e308 and ("i"."latency_ms") > (case when (case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end) = $arm_0 then $limit_0 else $limit_1 end) then 1 end as t10, case when abs(("i"."latency_ms")) < 1e308 then 1 end as t11, s.sx6 as t12, s.sy6 as t13
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
select c.unit_key as unit_id, c.arm, c.ts_us, c.head_us, case when c.call_rank = 1 then 1 end as head, case when c.head_us >= $stage_start_0 then 1 else 0 end as stage, c.any_by_default = 1 as not_randomised, case when c.call_rank = 1 and ("c"."refused") then 1 end as t0, case when c.call_rank = 1 and ("c"."refused") is not null then 1 end as t1, case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") then 1 end as t2, case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") is not null then 1 end as t3, case when abs(("c"."latency_ms" / NULLIF((1000), 0))) < 1e308 then (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t4, case when abs(("c"."latency_ms" / NULLIF((1000), 0))) < 1e308 then 1 end as t5, case when c.call_rank = 1 and abs(("c"."cost_usd")) < 1e308 and abs((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then (("c"."cost_usd")) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t6, case when c.call_rank = 1 and abs(("c"."cost_usd")) < 1e308 and abs((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then ((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t7, case when c.call_rank = 1 and (TRUE) then 1 end as t8, case when c.call_rank = 1 and (TRUE) is not null then 1 end as t9, case when c.call_rank = 1 and abs(("c"."latency_ms")) < 1e308 and ("c"."latency_ms") > (case when c.arm = $arm_0 then $limit_0 else $limit_1 end) then 1 end as t10, case when c.call_rank = 1 and abs(("c"."latency_ms")) < 1e308 then 1 end as t11, s.sx6 as t12, s.sy6 as t13
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
  where r.unit_id is not null and r.arm in ($arm_0, $arm_1) and not r.not_randomised
  and not exists (select 1 from contaminated d where d.unit_id = r.unit_id and d.stage = r.stage)
  group by unit_id, arm, stage, cast(floor(head_us / $grid) as bigint)
),
running as (
  select unit_id, arm, stage, bucket, requests, calls,
    row_number() over (partition by unit_id, arm, stage order by bucket) as visit,
  t0 as dt0, cast(sum(t0) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st0,
  t1 as dt1, cast(sum(t1) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st1,
  t2 as dt2, cast(sum(t2) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st2,
  t3 as dt3, cast(sum(t3) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st3,
  t4 as dt4, cast(sum(t4) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st4,
  t5 as dt5, cast(sum(t5) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st5,
  t6 as dt6, cast(sum(t6) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st6,
  t7 as dt7, cast(sum(t7) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st7,
  t8 as dt8, cast(sum(t8) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st8,
  t9 as dt9, cast(sum(t9) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st9,
  t10 as dt10, cast(sum(t10) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st10,
  t11 as dt11, cast(sum(t11) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st11,
  t12 as dt12, cast(sum(t12) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st12,
  t13 as dt13, cast(sum(t13) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st13
  from steps
)
select unit_id, arm, stage, bucket, requests, calls, case when visit = 1 then 1 else 0 end as new_in_cell,
  cast(st0 as bigint) as at0, cast(st0 - dt0 as bigint) as bt0,
  cast(st1 as bigint) as at1, cast(st1 - dt1 as bigint) as bt1,
  cast(least(st2, 1) as bigint) as at2c, cast(least(st2 - dt2, 1) as bigint) as bt2c,
  cast(least(st3, 1) as bigint) as at3c, cast(least(st3 - dt3, 1) as bigint) as bt3c,
  cast(st4 as bigint) as at4, cast(st4 - dt4 as bigint) as bt4,
  cast(st5 as bigint) as at5, cast(st5 - dt5 as bigint) as bt5,
  cast(st6 as bigint) as at6, cast(st6 - dt6 as bigint) as bt6,
  cast(st7 as bigint) as at7, cast(st7 - dt7 as bigint) as bt7,
  cast(st8 as bigint) as at8, cast(st8 - dt8 as bigint) as bt8,
  cast(least(st9, 1) as bigint) as at9c, cast(least(st9 - dt9, 1) as bigint) as bt9c,
  cast(st10 as bigint) as at10, cast(st10 - dt10 as bigint) as bt10,
  cast(st11 as bigint) as at11, cast(st11 - dt11 as bigint) as bt11,
  cast(st12 as bigint) as at12, cast(st12 - dt12 as bigint) as bt12,
  cast(st13 as bigint) as at13, cast(st13 - dt13 as bigint) as bt13
from running
