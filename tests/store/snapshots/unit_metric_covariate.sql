-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- $threshold5__0 = 900.0
-- $threshold5__1 = 1260.0
-- One row per unit, arm, stage and hour with what the unit had accumulated in that arm and stage after the hour (a*) and
-- before it (b*): from these, every cumulative sum and every pair moment at every hour follows without a second scan.
-- Units seen in two arms within one stage are contaminated and left out; calls that were not randomised too.
with hourly as (
  select unit_id, arm, stage, bucket, cast(sum(head) as bigint) as requests, count(*) as calls,
  cast(sum(x0) as bigint) as x0,
  cast(sum(y0) as bigint) as y0,
  cast(sum(x1) as bigint) as x1,
  cast(sum(y1) as bigint) as y1,
  cast(sum(x2) as bigint) as x2,
  cast(sum(y2) as bigint) as y2,
  cast(sum(x3) as bigint) as x3,
  cast(sum(y3) as bigint) as y3,
  cast(sum(x4) as bigint) as x4,
  cast(sum(y4) as bigint) as y4,
  cast(sum(case when v5 > (case when arm = $arm_0 then $threshold5__0 else $threshold5__1 end) then 1 else 0 end) as bigint) as x5,
  cast(sum(case when v5 is null then 0 else 1 end) as bigint) as y5,
  cast(sum(x6) as bigint) as x6,
  cast(sum(y6) as bigint) as y6
  from request
  where unit_id is not null and arm is not null and arm in ($arm_0, $arm_1) and not not_randomised
  group by unit_id, arm, stage, bucket
),
seen as (
  select h.*,
    min(arm) over (partition by unit_id, stage) as first_arm,
    max(arm) over (partition by unit_id, stage) as last_arm
  from hourly h
),
running as (
  select unit_id, arm, stage, bucket, requests, calls,
    row_number() over (partition by unit_id, arm, stage order by bucket) as visit,
    row_number() over (partition by unit_id, arm order by bucket, stage) as visit_of_arm,
  x0 as dx0, cast(sum(x0) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cx0,
  y0 as dy0, cast(sum(y0) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cy0,
  x1 as dx1, cast(sum(x1) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cx1,
  y1 as dy1, cast(sum(y1) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cy1,
  x2 as dx2, cast(sum(x2) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cx2,
  y2 as dy2, cast(sum(y2) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cy2,
  x3 as dx3, cast(sum(x3) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cx3,
  y3 as dy3, cast(sum(y3) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cy3,
  x4 as dx4, cast(sum(x4) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cx4,
  y4 as dy4, cast(sum(y4) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cy4,
  x5 as dx5, cast(sum(x5) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cx5,
  y5 as dy5, cast(sum(y5) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cy5,
  x6 as dx6, cast(sum(x6) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cx6,
  y6 as dy6, cast(sum(y6) over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row) as bigint) as cy6
  from seen
  where first_arm = last_arm
)
select unit_id, arm, stage, bucket, requests, calls, case when visit = 1 then 1 else 0 end as new_in_cell,
  case when visit_of_arm = 1 then 1 else 0 end as new_in_arm,
  cast(cx0 as bigint) as ax0, cast(cx0 - dx0 as bigint) as bx0,
  cast(cy0 as bigint) as ay0, cast(cy0 - dy0 as bigint) as by0,
  cast(coalesce(c0, 0) as bigint) as ac0, cast(case when visit = 1 then 0 else coalesce(c0, 0) end as bigint) as bc0,
  cast(coalesce(d0, 0) as bigint) as ad0, cast(case when visit = 1 then 0 else coalesce(d0, 0) end as bigint) as bd0,
  cast(least(cx1, 1) as bigint) as ax1, cast(least(cx1 - dx1, 1) as bigint) as bx1,
  cast(least(cy1, 1) as bigint) as ay1, cast(least(cy1 - dy1, 1) as bigint) as by1,
  cast(coalesce(c1, 0) as bigint) as ac1, cast(case when visit = 1 then 0 else coalesce(c1, 0) end as bigint) as bc1,
  cast(coalesce(d1, 0) as bigint) as ad1, cast(case when visit = 1 then 0 else coalesce(d1, 0) end as bigint) as bd1,
  cast(cx2 as bigint) as ax2, cast(cx2 - dx2 as bigint) as bx2,
  cast(cy2 as bigint) as ay2, cast(cy2 - dy2 as bigint) as by2,
  cast(coalesce(c2, 0) as bigint) as ac2, cast(case when visit = 1 then 0 else coalesce(c2, 0) end as bigint) as bc2,
  cast(coalesce(d2, 0) as bigint) as ad2, cast(case when visit = 1 then 0 else coalesce(d2, 0) end as bigint) as bd2,
  cast(cx3 as bigint) as ax3, cast(cx3 - dx3 as bigint) as bx3,
  cast(cy3 as bigint) as ay3, cast(cy3 - dy3 as bigint) as by3,
  cast(coalesce(c3, 0) as bigint) as ac3, cast(case when visit = 1 then 0 else coalesce(c3, 0) end as bigint) as bc3,
  cast(coalesce(d3, 0) as bigint) as ad3, cast(case when visit = 1 then 0 else coalesce(d3, 0) end as bigint) as bd3,
  cast(cx4 as bigint) as ax4, cast(cx4 - dx4 as bigint) as bx4,
  cast(least(cy4, 1) as bigint) as ay4, cast(least(cy4 - dy4, 1) as bigint) as by4,
  cast(coalesce(c4, 0) as bigint) as ac4, cast(case when visit = 1 then 0 else coalesce(c4, 0) end as bigint) as bc4,
  cast(coalesce(d4, 0) as bigint) as ad4, cast(case when visit = 1 then 0 else coalesce(d4, 0) end as bigint) as bd4,
  cast(cx5 as bigint) as ax5, cast(cx5 - dx5 as bigint) as bx5,
  cast(cy5 as bigint) as ay5, cast(cy5 - dy5 as bigint) as by5,
  cast(cx6 as bigint) as ax6, cast(cx6 - dx6 as bigint) as bx6,
  cast(cy6 as bigint) as ay6, cast(cy6 - dy6 as bigint) as by6,
  cast(coalesce(c6, 0) as bigint) as ac6, cast(case when visit = 1 then 0 else coalesce(c6, 0) end as bigint) as bc6,
  cast(coalesce(d6, 0) as bigint) as ad6, cast(case when visit = 1 then 0 else coalesce(d6, 0) end as bigint) as bd6
from running
left join history on past_unit = unit_id
