-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- Units that were seen in more than one arm within a stage.
select unit_id, stage
from unit_total
where not not_randomised and arm in ($arm_0, $arm_1)
group by unit_id, stage
having min(arm) <> max(arm)
