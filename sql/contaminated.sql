-- Units that were seen in more than one arm within a stage.
select unit_id, stage
from unit_total
where not not_randomised and arm in ({{ arms }})
group by unit_id, stage
having min(arm) <> max(arm)
