-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- Users of a live comparison who met several techniques: what they did belongs to none of them.
select unit_id
from tradeoff_request
where unit_id is not null and arm in ($arm_0, $arm_1) and exposed = 1
group by unit_id
having min(arm) <> max(arm)
