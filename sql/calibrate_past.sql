-- What the metrics with a covariate measured in each unit of the log before it met the experiment; it reads `history`.
select u.unit_no{{ columns }}
from calibrate_unit u
join history h on h.past_unit = u.unit_id
order by u.unit_no
