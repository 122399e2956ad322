-- Calls and units of every arm since a moment: after a halt the treatment falls silent while control goes on.
select arm, count(*) as calls, count(distinct unit_id) as units, max(ts_us) as last_us
from (
{{ calls }}
) r
where arm is not null
group by arm
