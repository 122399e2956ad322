-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $grid = 21600000000
-- $max_file = 7
-- $start = 0
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
  count(t5) as t5
  from (
-- One row per model call of the experiment: who (unit), which arm, which stage, when, and what it measured. A call's arm is
-- its own variant; else what its unit was assigned at that moment; else, where logs carry no variant, the manifest it ran.
-- Rows without a unit or an arm stay, so that they can be counted.
select i."session_id" as unit_id, i.variant as arm, i.ts_us, i.ts_us as head_us, 1 as head, 0 as stage, 0 = 1 as not_randomised, case when ("i"."refused") then 1 end as t0, case when ("i"."refused") is not null then 1 end as t1, case when ("i"."format_ok" AND NOT "i"."is_error") then 1 end as t2, case when ("i"."format_ok" AND NOT "i"."is_error") is not null then 1 end as t3, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then (("i"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t4, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then 1 end as t5
from interaction i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and i.experiment_id = $experiment
  and ("i"."surface" = 'it''s "support"')
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
  t5 as dt5, cast(sum(t5) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as st5
  from steps
)
select unit_id, arm, stage, bucket, requests, calls, case when visit = 1 then 1 else 0 end as new_in_cell,
  cast(st0 as bigint) as at0, cast(st0 - dt0 as bigint) as bt0,
  cast(st1 as bigint) as at1, cast(st1 - dt1 as bigint) as bt1,
  cast(least(st2, 1) as bigint) as at2c, cast(least(st2 - dt2, 1) as bigint) as bt2c,
  cast(least(st3, 1) as bigint) as at3c, cast(least(st3 - dt3, 1) as bigint) as bt3c,
  cast(st4 as bigint) as at4, cast(st4 - dt4 as bigint) as bt4,
  cast(st5 as bigint) as at5, cast(st5 - dt5 as bigint) as bt5
from running
