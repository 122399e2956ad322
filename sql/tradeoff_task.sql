-- The tasks of one comparison, a row per request and side (0 what runs today, 1 the technique). Paired: requests that both answered, each with
-- the other side's row beside it, so that a task counts only where both sides can tell.
select case when r.arm = $today then 0 else 1 end as side, {{ unit }} as unit_id, r.request_key{{ segment }}{{ columns }}
from tradeoff_request r{{ other }}
where r.arm in ($today, $technique){{ kept }}
