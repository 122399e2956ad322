-- Like cell_sums and pair_moments for the units' history alone, by the hour in which the unit arrived in the cell.
select arm as arm_a, stage as stage_a, arm as arm_b, stage as stage_b, cast(floor(arrived_us / $grid) as bigint) as bucket,
  count(*) as units{{ own_products }}
from cell
group by arm, stage, cast(floor(arrived_us / $grid) as bigint)
union all
select p.arm as arm_a, p.stage as stage_a, q.arm as arm_b, q.stage as stage_b,
  cast(floor(q.arrived_us / $grid) as bigint) as bucket, count(*) as units{{ cross_products }}
from cell p
join cell q on q.unit_id = p.unit_id and p.stage < q.stage
group by p.arm, p.stage, q.arm, q.stage, cast(floor(q.arrived_us / $grid) as bigint)
