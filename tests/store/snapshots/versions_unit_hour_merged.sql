-- $as_of = 1794000000000000
-- $grid = 3600000000
-- $max_file = 7
-- $start = 0
-- Units by hour: how many of a unit's calls can tell of each signal, in how many it was, and the hour of its first call.
select g.*, min(g.hour) over (partition by g.unit_key) as first_hour
from (
  select s.unit_key, cast(floor(s.ts_us / $grid) as bigint) as hour, count(s.e0) as n0, coalesce(sum(s.e0), 0) as k0
  from (
-- One row per call: who, when, and whether each signal was there (1, 0, or NULL where the log cannot tell).
select coalesce(i."unit_id", i."interaction_id") as unit_key, i.ts_us, case when ("i"."is_error") then 1 when not ("i"."is_error") then 0 end as e0
from -- The calls for counting versions: of a call that several sources have logged, the one row that stands for it.
(
  select unit_id, exposed, operation, surface, is_error, refused, format_ok, ts_us, interaction_id, file_id
  from interaction x
  where not exists (
      select 1 from twin w where w.interaction_id = x.interaction_id and w.file_id <= $max_file and w.until_file > $max_file
    )
  union all
  select unit_id, exposed, operation, surface, is_error, refused, format_ok, ts_us, interaction_id, file_id
  from merged_interaction
  where file_id <= $max_file and until_file > $max_file
) i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  ) s
  group by s.unit_key, cast(floor(s.ts_us / $grid) as bigint)
) g
