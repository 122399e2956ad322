-- One row per unit and hour of the log: what the unit did, added up, and from which hour on that is known (scores come late).
-- Users are put into pseudo-arms again and again, so here rows of units leave SQL: whole numbers, no names.
select u.unit_no, cast(floor(r.head_us / $grid) as bigint) as bucket, cast(floor(({{ seen }}) / $grid) as bigint) as seen,
  count(*) as calls, count(head) as requests, min(r.ts_us) as first_us, max(r.ts_us) as last_us{{ totals }}
from (
{{ calls }}
) r
join calibrate_unit u on u.unit_id = r.unit_id
where r.arm = $control and not r.not_randomised
group by u.unit_no, cast(floor(r.head_us / $grid) as bigint), cast(floor(({{ seen }}) / $grid) as bigint)
order by 1, 3, 2
