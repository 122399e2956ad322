-- Calls by arm and manifest (what was running): more than one manifest inside an arm mixes versions.
select arm, {{ fields }}, count(*) as calls, min(ts_us) as first_us, max(ts_us) as last_us
from request
where unit_id is not null and arm is not null and arm in ({{ arms }})
group by arm, {{ fields }}
order by arm, calls desc, {{ fields }}
