-- What the metrics with a covariate measured in each unit of the log before it met the experiment; it reads `history`.
select u.unit_no, cast(coalesce(h.c0, 0) as bigint) as c0, cast(coalesce(h.d0, 0) as bigint) as d0, cast(coalesce(h.c3, 0) as bigint) as c3, cast(coalesce(h.d3, 0) as bigint) as d3
from calibrate_unit u
join history h on h.past_unit = u.unit_id
order by u.unit_no
