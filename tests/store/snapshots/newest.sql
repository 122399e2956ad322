-- The time of the newest event: a call, an assignment, a score or a correction of one.
select max(ts_us) as newest_us
from (
  select max(ts_us) as ts_us from interaction
  union all
  select max(ts_us) as ts_us from assignment
  union all
  select max(coalesce(updated_us, ts_us)) as ts_us from score
) events
