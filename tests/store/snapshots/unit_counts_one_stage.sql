-- Units and calls per arm and stage, as they were seen (contaminated and not randomised ones too).
select arm, stage, count(*) as units, cast(sum(calls) as bigint) as calls, min(first_us) as first_us, max(last_us) as last_us
from unit_total seen
group by arm, stage
