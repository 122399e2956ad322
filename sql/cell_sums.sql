-- One row per arm and stage (and look, and segment): units, requests, calls and the sums of every metric.
select arm, stage, {{ look }} as look{{ segment }}, {{ units }} as units, cast(coalesce(sum(requests), 0) as bigint) as requests,
  cast(coalesce(sum(calls), 0) as bigint) as calls{{ sums }}
from {{ cells }}
group by arm, stage{{ keys }}
