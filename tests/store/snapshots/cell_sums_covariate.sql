-- One row per arm, stage and hour: what the hour added to the cell.
select arm, stage, bucket, cast(sum(new_in_cell) as bigint) as units,
  cast(sum(new_in_arm) as bigint) as new_units, cast(sum(requests) as bigint) as requests,
  cast(sum(calls) as bigint) as calls,
  cast(sum(ax0 - bx0) as decimal(38,0)) as x0,
  cast(sum(ay0 - by0) as decimal(38,0)) as y0,
  cast(sum(ac0 - bc0) as decimal(38,0)) as c0,
  cast(sum(ad0 - bd0) as decimal(38,0)) as d0,
  cast(sum(ax5 - bx5) as decimal(38,0)) as x5,
  cast(sum(ay5 - by5) as decimal(38,0)) as y5
from unit_step
group by arm, stage, bucket
order by arm, stage, bucket
