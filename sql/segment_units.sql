-- Distinct units by level and arm, over the rows that are evidence.
select segment, arm, count(*) as units, count(*) as evidence_units
from (select distinct segment, arm, unit_id from cell) seen
group by segment, arm
