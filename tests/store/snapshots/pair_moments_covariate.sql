-- One row per pair of cells (cell = arm and stage, first stage <= second) and hour: what the hour added to the sums of
-- products over units. A unit seen in several stages is one cluster, so products run over pairs of cells. An earlier stage is
-- closed when a later one runs, so its final sum multiplies what the later cell gained.
with closed as (
  select unit_id, arm, stage,
  cast(sum(ax0 - bx0) as bigint) as x0,
  cast(sum(ay0 - by0) as bigint) as y0,
  cast(sum(ac0 - bc0) as bigint) as c0,
  cast(sum(ad0 - bd0) as bigint) as d0,
  cast(sum(ax5 - bx5) as bigint) as x5,
  cast(sum(ay5 - by5) as bigint) as y5
  from unit_step
  group by unit_id, arm, stage
)
select arm as arm_a, stage as stage_a, arm as arm_b, stage as stage_b, bucket,
  cast(coalesce(sum(cast(ax0 as decimal(38,0)) * ax0 - cast(bx0 as decimal(38,0)) * bx0), 0) as decimal(38,0)) as xx0,
  cast(coalesce(sum(cast(ax0 as decimal(38,0)) * ay0 - cast(bx0 as decimal(38,0)) * by0), 0) as decimal(38,0)) as xy0,
  cast(coalesce(sum(cast(ax0 as decimal(38,0)) * ac0 - cast(bx0 as decimal(38,0)) * bc0), 0) as decimal(38,0)) as xc0,
  cast(coalesce(sum(cast(ax0 as decimal(38,0)) * ad0 - cast(bx0 as decimal(38,0)) * bd0), 0) as decimal(38,0)) as xd0,
  cast(coalesce(sum(cast(ay0 as decimal(38,0)) * ax0 - cast(by0 as decimal(38,0)) * bx0), 0) as decimal(38,0)) as yx0,
  cast(coalesce(sum(cast(ay0 as decimal(38,0)) * ay0 - cast(by0 as decimal(38,0)) * by0), 0) as decimal(38,0)) as yy0,
  cast(coalesce(sum(cast(ay0 as decimal(38,0)) * ac0 - cast(by0 as decimal(38,0)) * bc0), 0) as decimal(38,0)) as yc0,
  cast(coalesce(sum(cast(ay0 as decimal(38,0)) * ad0 - cast(by0 as decimal(38,0)) * bd0), 0) as decimal(38,0)) as yd0,
  cast(coalesce(sum(cast(ac0 as decimal(38,0)) * ax0 - cast(bc0 as decimal(38,0)) * bx0), 0) as decimal(38,0)) as cx0,
  cast(coalesce(sum(cast(ac0 as decimal(38,0)) * ay0 - cast(bc0 as decimal(38,0)) * by0), 0) as decimal(38,0)) as cy0,
  cast(coalesce(sum(cast(ac0 as decimal(38,0)) * ac0 - cast(bc0 as decimal(38,0)) * bc0), 0) as decimal(38,0)) as cc0,
  cast(coalesce(sum(cast(ac0 as decimal(38,0)) * ad0 - cast(bc0 as decimal(38,0)) * bd0), 0) as decimal(38,0)) as cd0,
  cast(coalesce(sum(cast(ad0 as decimal(38,0)) * ax0 - cast(bd0 as decimal(38,0)) * bx0), 0) as decimal(38,0)) as dx0,
  cast(coalesce(sum(cast(ad0 as decimal(38,0)) * ay0 - cast(bd0 as decimal(38,0)) * by0), 0) as decimal(38,0)) as dy0,
  cast(coalesce(sum(cast(ad0 as decimal(38,0)) * ac0 - cast(bd0 as decimal(38,0)) * bc0), 0) as decimal(38,0)) as dc0,
  cast(coalesce(sum(cast(ad0 as decimal(38,0)) * ad0 - cast(bd0 as decimal(38,0)) * bd0), 0) as decimal(38,0)) as dd0,
  cast(coalesce(sum(cast(ax5 as decimal(38,0)) * ax5 - cast(bx5 as decimal(38,0)) * bx5), 0) as decimal(38,0)) as xx5,
  cast(coalesce(sum(cast(ax5 as decimal(38,0)) * ay5 - cast(bx5 as decimal(38,0)) * by5), 0) as decimal(38,0)) as xy5,
  cast(coalesce(sum(cast(ay5 as decimal(38,0)) * ax5 - cast(by5 as decimal(38,0)) * bx5), 0) as decimal(38,0)) as yx5,
  cast(coalesce(sum(cast(ay5 as decimal(38,0)) * ay5 - cast(by5 as decimal(38,0)) * by5), 0) as decimal(38,0)) as yy5
from unit_step
group by arm, stage, bucket
union all
select p.arm as arm_a, p.stage as stage_a, q.arm as arm_b, q.stage as stage_b, q.bucket,
  cast(coalesce(sum(cast(p.x0 as decimal(38,0)) * (q.ax0 - q.bx0)), 0) as decimal(38,0)) as xx0,
  cast(coalesce(sum(cast(p.x0 as decimal(38,0)) * (q.ay0 - q.by0)), 0) as decimal(38,0)) as xy0,
  cast(coalesce(sum(cast(p.x0 as decimal(38,0)) * (q.ac0 - q.bc0)), 0) as decimal(38,0)) as xc0,
  cast(coalesce(sum(cast(p.x0 as decimal(38,0)) * (q.ad0 - q.bd0)), 0) as decimal(38,0)) as xd0,
  cast(coalesce(sum(cast(p.y0 as decimal(38,0)) * (q.ax0 - q.bx0)), 0) as decimal(38,0)) as yx0,
  cast(coalesce(sum(cast(p.y0 as decimal(38,0)) * (q.ay0 - q.by0)), 0) as decimal(38,0)) as yy0,
  cast(coalesce(sum(cast(p.y0 as decimal(38,0)) * (q.ac0 - q.bc0)), 0) as decimal(38,0)) as yc0,
  cast(coalesce(sum(cast(p.y0 as decimal(38,0)) * (q.ad0 - q.bd0)), 0) as decimal(38,0)) as yd0,
  cast(coalesce(sum(cast(p.c0 as decimal(38,0)) * (q.ax0 - q.bx0)), 0) as decimal(38,0)) as cx0,
  cast(coalesce(sum(cast(p.c0 as decimal(38,0)) * (q.ay0 - q.by0)), 0) as decimal(38,0)) as cy0,
  cast(coalesce(sum(cast(p.c0 as decimal(38,0)) * (q.ac0 - q.bc0)), 0) as decimal(38,0)) as cc0,
  cast(coalesce(sum(cast(p.c0 as decimal(38,0)) * (q.ad0 - q.bd0)), 0) as decimal(38,0)) as cd0,
  cast(coalesce(sum(cast(p.d0 as decimal(38,0)) * (q.ax0 - q.bx0)), 0) as decimal(38,0)) as dx0,
  cast(coalesce(sum(cast(p.d0 as decimal(38,0)) * (q.ay0 - q.by0)), 0) as decimal(38,0)) as dy0,
  cast(coalesce(sum(cast(p.d0 as decimal(38,0)) * (q.ac0 - q.bc0)), 0) as decimal(38,0)) as dc0,
  cast(coalesce(sum(cast(p.d0 as decimal(38,0)) * (q.ad0 - q.bd0)), 0) as decimal(38,0)) as dd0,
  cast(coalesce(sum(cast(p.x5 as decimal(38,0)) * (q.ax5 - q.bx5)), 0) as decimal(38,0)) as xx5,
  cast(coalesce(sum(cast(p.x5 as decimal(38,0)) * (q.ay5 - q.by5)), 0) as decimal(38,0)) as xy5,
  cast(coalesce(sum(cast(p.y5 as decimal(38,0)) * (q.ax5 - q.bx5)), 0) as decimal(38,0)) as yx5,
  cast(coalesce(sum(cast(p.y5 as decimal(38,0)) * (q.ay5 - q.by5)), 0) as decimal(38,0)) as yy5
from closed p
join unit_step q on q.unit_id = p.unit_id and p.stage < q.stage
group by p.arm, p.stage, q.arm, q.stage, q.bucket
