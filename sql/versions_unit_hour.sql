-- Units by hour: how many of a unit's calls can tell of each signal, in how many it was, and the hour of its first call.
select g.*, min(g.hour) over (partition by g.unit_key) as first_hour
from (
  select s.unit_key, cast(floor(s.ts_us / $grid) as bigint) as hour{{ sums }}
  from (
{{ signals }}
  ) s
  group by s.unit_key, cast(floor(s.ts_us / $grid) as bigint)
) g
