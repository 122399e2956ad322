-- All calls by stretch of time: how many can tell of a signal, and in how many it was.
select cast(floor(s.ts_us / $grid) as bigint) as bucket, count(*) as calls{{ sums }}
from (
{{ signals }}
) s
group by cast(floor(s.ts_us / $grid) as bigint)
