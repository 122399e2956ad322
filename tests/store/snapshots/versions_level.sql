-- $as_of = 1794000000000000
-- $experiment_id = "sonnet-swap"
-- $max_file = 7
-- $start = 1793996400000000
-- $surface = "support"
-- $variant = "baseline"
-- Calls by the size of a number, in steps of half a percent: where its high values begin is read off this.
select cast(floor(ln(v.amount) * 200) as bigint) as step, count(*) as calls
from (
  select "i"."latency_ms" as amount
  from interaction i
  where i.exposed
    and i.file_id <= $max_file
    and i.ts_us >= $start and i.ts_us <= $as_of
    and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and i."surface" = $surface
  and i."experiment_id" = $experiment_id
  and i."variant" = $variant
  and ("i"."surface" = 'it''s')
) v
where v.amount > 0
group by cast(floor(ln(v.amount) * 200) as bigint)
