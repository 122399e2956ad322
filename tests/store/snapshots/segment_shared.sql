-- Units that were seen in several levels of a segment: what is said of these levels is not independent.
select count(*) as units
from (
  select unit_id
  from (select distinct segment, unit_id from cell) seen
  group by unit_id
  having count(*) > 1
) shared
