-- One row per pair of cells (cell = arm and stage, first stage <= second) and hour: what the hour added to the sums of
-- products over units. A unit seen in several stages is one cluster, so products run over pairs of cells. An earlier stage is
-- closed when a later one runs, so its final sum multiplies what the later cell gained.
with closed as (
  select unit_id, arm, stage,
  cast(sum(ax0 - bx0) as bigint) as x0,
  cast(sum(ay0 - by0) as bigint) as y0,
  cast(sum(ax1 - bx1) as bigint) as x1,
  cast(sum(ay1 - by1) as bigint) as y1
  from unit_step
  group by unit_id, arm, stage
)
select arm as arm_a, stage as stage_a, arm as arm_b, stage as stage_b, bucket,
  cast(coalesce(sum(cast(ax0 as decimal(38,0)) * ax0 - cast(bx0 as decimal(38,0)) * bx0), 0) as decimal(38,0)) as xx0,
  cast(coalesce(sum(cast(ax0 as decimal(38,0)) * ay0 - cast(bx0 as decimal(38,0)) * by0), 0) as decimal(38,0)) as xy0,
  cast(coalesce(sum(cast(ay0 as decimal(38,0)) * ax0 - cast(by0 as decimal(38,0)) * bx0), 0) as decimal(38,0)) as yx0,
  cast(coalesce(sum(cast(ay0 as decimal(38,0)) * ay0 - cast(by0 as decimal(38,0)) * by0), 0) as decimal(38,0)) as yy0,
  cast(coalesce(sum(cast(ax1 as decimal(38,0)) * ax1 - cast(bx1 as decimal(38,0)) * bx1), 0) as decimal(38,0)) as xx1,
  cast(coalesce(sum(cast(ax1 as decimal(38,0)) * ay1 - cast(bx1 as decimal(38,0)) * by1), 0) as decimal(38,0)) as xy1,
  cast(coalesce(sum(cast(ay1 as decimal(38,0)) * ax1 - cast(by1 as decimal(38,0)) * bx1), 0) as decimal(38,0)) as yx1,
  cast(coalesce(sum(cast(ay1 as decimal(38,0)) * ay1 - cast(by1 as decimal(38,0)) * by1), 0) as decimal(38,0)) as yy1
from unit_step
group by arm, stage, bucket
union all
select p.arm as arm_a, p.stage as stage_a, q.arm as arm_b, q.stage as stage_b, q.bucket,
  cast(coalesce(sum(cast(p.x0 as decimal(38,0)) * (q.ax0 - q.bx0)), 0) as decimal(38,0)) as xx0,
  cast(coalesce(sum(cast(p.x0 as decimal(38,0)) * (q.ay0 - q.by0)), 0) as decimal(38,0)) as xy0,
  cast(coalesce(sum(cast(p.y0 as decimal(38,0)) * (q.ax0 - q.bx0)), 0) as decimal(38,0)) as yx0,
  cast(coalesce(sum(cast(p.y0 as decimal(38,0)) * (q.ay0 - q.by0)), 0) as decimal(38,0)) as yy0,
  cast(coalesce(sum(cast(p.x1 as decimal(38,0)) * (q.ax1 - q.bx1)), 0) as decimal(38,0)) as xx1,
  cast(coalesce(sum(cast(p.x1 as decimal(38,0)) * (q.ay1 - q.by1)), 0) as decimal(38,0)) as xy1,
  cast(coalesce(sum(cast(p.y1 as decimal(38,0)) * (q.ax1 - q.bx1)), 0) as decimal(38,0)) as yx1,
  cast(coalesce(sum(cast(p.y1 as decimal(38,0)) * (q.ay1 - q.by1)), 0) as decimal(38,0)) as yy1
from closed p
join unit_step q on q.unit_id = p.unit_id and p.stage < q.stage
group by p.arm, p.stage, q.arm, q.stage, q.bucket
