-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- Failed tasks of each technique by what went wrong; a failure without a name has one of its own.
select arm, coalesce(category, '(no name)') as category, count(*) as tasks
from tradeoff_request
where arm in ($arm_0, $arm_1) and y0 = 1 and x0 = 0
group by arm, coalesce(category, '(no name)')
