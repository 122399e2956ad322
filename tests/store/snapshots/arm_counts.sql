-- Units and calls per arm over all stages, as they were seen.
select arm, count(distinct unit_id) as units, count(*) as interactions, min(ts_us) as first_us, max(ts_us) as last_us
from request
where unit_id is not null and arm is not null
group by arm
order by arm
