-- Calls by the size of a number, in steps of half a percent: where its high values begin is read off this.
select cast(floor(ln(v.amount) * 200) as bigint) as step, count(*) as calls
from (
  select {{ value }} as amount
  from {{ interaction }} i
  where i.exposed
    and i.file_id <= $max_file
    and i.ts_us >= $start and i.ts_us <= $as_of
    and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content')){{ more }}
) v
where v.amount > 0
group by cast(floor(ln(v.amount) * 200) as bigint)
