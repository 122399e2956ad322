-- One row per arm, stage and hour: units with their first event of the whole experiment (event*), and what units still
-- event-free contributed to the denominator (risk*). A unit counts once, in the stage of its first event.
with first_seen as (
  select unit_id,
  min(case when ax0 - bx0 > 0 then bucket * 1000 + stage end) as f0,
  min(case when ay1 - by1 > ax1 - bx1 then bucket * 1000 + stage end) as f1
  from unit_step
  group by unit_id
)
select u.arm, u.stage, u.bucket,
  cast(sum(case when f.f0 = u.bucket * 1000 + u.stage and u.ax0 - u.bx0 > 0 then 1 else 0 end) as bigint) as event0,
  cast(sum(case when f.f0 is null or u.bucket * 1000 + u.stage <= f.f0 then u.ay0 - u.by0 else 0 end) as bigint) as risk0,
  cast(sum(case when f.f1 = u.bucket * 1000 + u.stage and u.ay1 - u.by1 > u.ax1 - u.bx1 then 1 else 0 end) as bigint) as event1,
  cast(sum(case when f.f1 is null or u.bucket * 1000 + u.stage <= f.f1 then u.ay1 - u.by1 else 0 end) as bigint) as risk1
from unit_step u
join first_seen f on f.unit_id = u.unit_id
group by u.arm, u.stage, u.bucket
order by u.arm, u.stage, u.bucket
