-- One row per arm, stage and hour: what the hour added to the cell.
select arm, stage, bucket, cast(sum(new_in_cell) as bigint) as units,
  cast(sum(new_in_arm) as bigint) as new_units, cast(sum(requests) as bigint) as requests,
  cast(sum(calls) as bigint) as calls{{ sums }}
from unit_step
group by arm, stage, bucket
order by arm, stage, bucket
