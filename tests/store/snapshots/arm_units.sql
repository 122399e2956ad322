-- Distinct units per arm over all stages: as they were seen, and those that count as evidence.
select s.arm, s.units, coalesce(c.units, 0) as evidence_units
from (
  select arm, count(*) as units
  from (select distinct arm, unit_id from unit_total) seen
  group by arm
) s
left join (
  select arm, count(*) as units
  from (select distinct arm, unit_id from cell) kept
  group by arm
) c on c.arm = s.arm
