-- One row per arm, stage and hour: what the hour added to the cell.
select arm, stage, bucket, cast(sum(new_in_cell) as bigint) as units,
  cast(sum(new_in_arm) as bigint) as new_units, cast(sum(requests) as bigint) as requests,
  cast(sum(calls) as bigint) as calls,
  cast(sum(ax0 - bx0) as decimal(38,0)) as x0,
  cast(sum(ay0 - by0) as decimal(38,0)) as y0,
  cast(sum(ax1 - bx1) as decimal(38,0)) as x1,
  cast(sum(ay1 - by1) as decimal(38,0)) as y1,
  cast(sum(ax2 - bx2) as decimal(38,0)) as x2,
  cast(sum(ay2 - by2) as decimal(38,0)) as y2,
  cast(sum(ax3 - bx3) as decimal(38,0)) as x3,
  cast(sum(ay3 - by3) as decimal(38,0)) as y3,
  cast(sum(ax4 - bx4) as decimal(38,0)) as x4,
  cast(sum(ay4 - by4) as decimal(38,0)) as y4,
  cast(sum(ax5 - bx5) as decimal(38,0)) as x5,
  cast(sum(ay5 - by5) as decimal(38,0)) as y5,
  cast(sum(ax6 - bx6) as decimal(38,0)) as x6,
  cast(sum(ay6 - by6) as decimal(38,0)) as y6
from unit_step
group by arm, stage, bucket
order by arm, stage, bucket
