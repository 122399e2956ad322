-- One row per technique and request, all its attempts together: what it cost (NULL unless every attempt's cost is known), whether
-- it succeeded, and what each metric measured. Tokens are those of the calls that logged both counts.
select unit_id, arm, request_key, count(*) as attempts, max(case when exposed then 1 else 0 end) as exposed,
  max(case when head is not null then turn end) as turn, min(head_us) as head_us,
  case when count(cost) = count(*) then cast(coalesce(sum(cost), 0) as bigint) end as cost,
  case when count(flat) = count(*) then cast(coalesce(sum(flat), 0) as bigint) end as flat,
  cast(coalesce(sum(case when cached_input_tokens is not null then input_tokens else 0 end), 0) as bigint) as input_tokens,
  cast(coalesce(sum(case when input_tokens is not null then cached_input_tokens else 0 end), 0) as bigint) as cached_tokens,
  max(case when head is not null then category end) as category{{ totals }}
from (
{{ calls }}
) r
where arm is not null
group by unit_id, arm, request_key
