-- Failed tasks of each technique by what went wrong; a failure without a name has one of its own.
select arm, coalesce(category, '(no name)') as category, count(*) as tasks
from tradeoff_request
where arm in ({{ arms }}) and {{ told }} = 1 and {{ succeeded }} = 0
group by arm, coalesce(category, '(no name)')
