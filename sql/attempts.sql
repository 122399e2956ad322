-- The calls of requests that have several (calls.sql has the others). One attempt, the last or the first, has call_rank 1 and
-- stands for its request; all attempts of a request belong to the moment and stage of that one.
select {{ columns }}
from (
  select r.*,
    row_number() over (
      partition by r.unit_key, r.arm, r.request_key
      order by r.ts_us {{ call_order }}, coalesce(r.attempt, 0) {{ call_order }}, r.interaction_id {{ call_order }}
    ) as call_rank,
    {{ head_time }}(r.ts_us) over (partition by r.unit_key, r.arm, r.request_key) as head_us,
    max(r.by_default) over (partition by r.unit_key, r.arm, r.request_key) as any_by_default
  from (
{{ calls }}
  ) r
) c{{ scores }}
