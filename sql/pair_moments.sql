-- One row per pair of cells (cell = arm and stage, first stage <= second) and hour: what the hour added to the sums of
-- products over units. A unit seen in several stages is one cluster, so products run over pairs of cells. An earlier stage is
-- closed when a later one runs, so its final sum multiplies what the later cell gained.
with closed as (
  select unit_id, arm, stage{{ closed_sums }}
  from unit_step
  group by unit_id, arm, stage
)
select arm as arm_a, stage as stage_a, arm as arm_b, stage as stage_b, bucket{{ own_products }}
from unit_step
group by arm, stage, bucket
union all
select p.arm as arm_a, p.stage as stage_a, q.arm as arm_b, q.stage as stage_b, q.bucket{{ cross_products }}
from closed p
join unit_step q on q.unit_id = p.unit_id and p.stage < q.stage
group by p.arm, p.stage, q.arm, q.stage, q.bucket
