-- Users of a live comparison who met several techniques: what they did belongs to none of them.
select unit_id
from tradeoff_request
where unit_id is not null and arm in ({{ arms }}) and exposed = 1
group by unit_id
having min(arm) <> max(arm)
