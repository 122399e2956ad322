-- Units of every level of a segment, over the rows that are evidence.
select segment, count(*) as units
from (select distinct segment, unit_id from cell) seen
group by segment
