-- How the techniques were compared: requests, units and live requests of each, and how many of its requests
-- are answered by what they are compared with, too.
select r.arm, count(*) as requests, count(distinct r.unit_id) as units, sum(r.exposed) as exposed, count(o.request_key) as shared,
  sum(case when r.unit_id is null then 1 else 0 end) as no_unit, sum(case when r.turn > 1 then 1 else 0 end) as later_turns,
  sum(case when r.cost is null then 1 else 0 end) as no_cost, sum(r.attempts) as attempts,
  cast(sum(r.input_tokens) as bigint) as input_tokens, cast(sum(r.cached_tokens) as bigint) as cached_tokens,
  count(distinct c.unit_id) as crossed, min(r.head_us) as first_us, max(r.head_us) as last_us
from tradeoff_request r
left join (select distinct request_key from tradeoff_request where arm = $today) o on o.request_key = r.request_key
left join tradeoff_crossed c on c.unit_id = r.unit_id
where r.arm in ({{ arms }})
group by r.arm
