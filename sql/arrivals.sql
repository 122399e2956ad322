-- One row per arm and stretch of time: units that count as evidence, in the stretch in which they first did.
select arm, first_stage as stage, cast(floor(arrived_us / $grid) as bigint) as bucket, count(*) as units
from (
  select unit_id, arm, min(stage) as first_stage, min(arrived_us) as arrived_us
  from cell
  group by unit_id, arm
) arrived
group by arm, first_stage, cast(floor(arrived_us / $grid) as bigint)
