-- $as_of = 1794000000000000
-- $experiment_id = "sonnet-swap"
-- $grid = 3600000000
-- $level_3 = 900.0
-- $level_4 = 900.0
-- $level_5 = 900.0
-- $max_file = 7
-- $start = 1793996400000000
-- $surface = "support"
-- $variant = "baseline"
-- Units by hour: how many of a unit's calls can tell of each signal, in how many it was, and the hour of its first call.
select g.*, min(g.hour) over (partition by g.unit_key) as first_hour
from (
  select s.unit_key, cast(floor(s.ts_us / $grid) as bigint) as hour, count(s.e0) as n0, coalesce(sum(s.e0), 0) as k0, count(s.e1) as n1, coalesce(sum(s.e1), 0) as k1, count(s.e2) as n2, coalesce(sum(s.e2), 0) as k2, count(s.e3) as n3, coalesce(sum(s.e3), 0) as k3, count(s.e4) as n4, coalesce(sum(s.e4), 0) as k4, count(s.e5) as n5, coalesce(sum(s.e5), 0) as k5
  from (
-- One row per call: who, when, and whether each signal was there (1, 0, or NULL where the log cannot tell).
select coalesce(i."unit_id", i."interaction_id") as unit_key, i.ts_us, case when ("i"."is_error") then 1 when not ("i"."is_error") then 0 end as e0, case when ("i"."refused") then 1 when not ("i"."refused") then 0 end as e1, case when (NOT "i"."format_ok") then 1 when not (NOT "i"."format_ok") then 0 end as e2, case when ("i"."latency_ms") > $level_3 then 1 when ("i"."latency_ms") is not null then 0 end as e3, case when ("i"."output_tokens") > $level_4 then 1 when ("i"."output_tokens") is not null then 0 end as e4, case when ("i"."cost_usd") > $level_5 then 1 when ("i"."cost_usd") is not null then 0 end as e5
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
  group by s.unit_key, cast(floor(s.ts_us / $grid) as bigint)
) g
