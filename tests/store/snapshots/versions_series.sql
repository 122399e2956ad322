-- $as_of = 1794000000000000
-- $experiment_id = "sonnet-swap"
-- $grid = 60000000
-- $max_file = 7
-- $start = 1793996400000000
-- $surface = "support"
-- $variant = "baseline"
-- All calls by stretch of time: how many can tell of a signal, and in how many it was.
select cast(floor(s.ts_us / $grid) as bigint) as bucket, count(*) as calls, count(s.e0) as n0, coalesce(sum(s.e0), 0) as k0
from (
-- One row per call: who, when, and whether each signal was there (1, 0, or NULL where the log cannot tell).
select coalesce(i."unit_id", i."interaction_id") as unit_key, i.ts_us, case when (NOT "i"."format_ok") then 1 when not (NOT "i"."format_ok") then 0 end as e0
from interaction i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and i."surface" = $surface
  and i."experiment_id" = $experiment_id
  and i."variant" = $variant
  and ("i"."surface" = 'it''s')
) s
group by cast(floor(s.ts_us / $grid) as bigint)
