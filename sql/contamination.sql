-- Units that were seen in more than one arm of a stage, by stage.
select stage, count(*) as contaminated
from contaminated
group by stage
