-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $score_0 = "helpfulness"
-- $scorer_0 = "judge"
-- $start = 0
-- One row per unit that has a past: what the metrics with a covariate (CUPED) measured in the unit's own calls strictly before
-- it met the experiment, in whatever experiment or in none. It met it with its first call that belongs to the experiment (its
-- arm may be unknown), with any earlier call that already showed an arm (before `start`, say), or when it was assigned,
-- whichever came first. Nothing that happened later can reach these sums: a score counts in the state it had at that moment.
with firsts as (
  select unit_id as unit_key, min(first_us) as first_us
  from unit_total
  group by unit_id
),
early as (
  select i.interaction_id, i.ts_us, i.attempt, f.unit_key, coalesce(i.request_id, i.interaction_id) as request_key,
    i.experiment_id, i.variant,
    case when (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content')) and ("i"."surface" = 'it''s "support"')
      then 1 else 0 end as counts,
  i."attributes",
  i."cost_usd",
  i."format_ok",
  i."is_error",
  i."latency_ms",
  i."refused"
  from (
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
) i
  join firsts f on f.unit_key = i."session_id" and i.ts_us < f.first_us
  where i.exposed and i.file_id <= $max_file and i.ts_us <= $as_of
),
met as (
  select unit_key, min(first_us) as met_us
  from (
    select unit_key, first_us
    from firsts
    union all
    select unit_key, ts_us as first_us
    from early
    where experiment_id = $experiment and (variant is not null or (ts_us >= $start and counts = 1))
    union all
    select unit_id as unit_key, ts_us as first_us
    from assignment
    where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
      and unit_id in (select unit_key from firsts)
  ) meetings
  group by unit_key
),
past as (
  select e.*, m.met_us, '' as arm
  from early e
  join met m on m.unit_key = e.unit_key and e.ts_us < m.met_us
  where e.counts = 1
),
-- The scores of past calls as they stood when the unit met the experiment (a part of history.sql).
judged as (
  select interaction_id, name, scorer_kind, value
  from (
    select t.interaction_id, s.name, s.scorer_kind, s.value,
      row_number() over (
        partition by t.interaction_id, s.name, s.scorer_kind, s.scorer_id
        order by coalesce(s.updated_us, s.ts_us) desc, case when s.updated_us is null then 0 else 1 end desc, s.score_id desc,
          case when s.value is null then 0 else 1 end desc, s.value desc
      ) as recency
    from past p
    join (
    select t.score_id, coalesce(w.merged_id, t.interaction_id) as interaction_id, t.file_id, t.until_file
    from score_target t
    left join twin w on w.interaction_id = t.interaction_id and w.file_id <= $max_file and w.until_file > $max_file
  ) t on t.interaction_id = p.interaction_id
    join score s on s.score_id = t.score_id
    where s.file_id <= $max_file and t.file_id <= $max_file and t.until_file > $max_file and coalesce(s.updated_us, s.ts_us) < p.met_us
  ) ranked
  where recency = 1 and value is not null
),
scored as (
  select interaction_id,
    cast(sum(case when name = $score_0 and scorer_kind = $scorer_0 then cast(case when abs((value) * 1000000e0) >= 4503599627370496e0 then (value) * 1000000e0 when (value) * 1000000e0 < 0 then (value) * 1000000e0 - 4503599627370496e0 + 4503599627370496e0 else (value) * 1000000e0 + 4503599627370496e0 - 4503599627370496e0 end as bigint) else 0 end) as bigint) as sx6,
    cast(sum(case when name = $score_0 and scorer_kind = $scorer_0 then 1 else 0 end) as bigint) as sy6
  from judged
  group by interaction_id
),
ranked as (
  select p.*, row_number() over (partition by p.unit_key, p.request_key order by p.ts_us desc, coalesce(p.attempt, 0) desc, p.interaction_id desc) as call_rank
  from past p
),
measured as (
  select c.unit_key,
  case when c.call_rank = 1 and ("c"."refused") then 1 end as x0,
  case when c.call_rank = 1 and ("c"."refused") is not null then 1 end as y0,
  case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") then 1 end as x1,
  case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") is not null then 1 end as y1,
  case when abs(("c"."latency_ms" / NULLIF((1000), 0))) < 1e308 then cast(case when abs((("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0) >= 4503599627370496e0 then (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 when (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 < 0 then (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 - 4503599627370496e0 + 4503599627370496e0 else (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 + 4503599627370496e0 - 4503599627370496e0 end as bigint) end as x2,
  case when abs(("c"."latency_ms" / NULLIF((1000), 0))) < 1e308 then 1 end as y2,
  case when c.call_rank = 1 and abs(("c"."cost_usd")) < 1e308 and abs((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then cast(case when abs((("c"."cost_usd")) * 1000000000e0) >= 4503599627370496e0 then (("c"."cost_usd")) * 1000000000e0 when (("c"."cost_usd")) * 1000000000e0 < 0 then (("c"."cost_usd")) * 1000000000e0 - 4503599627370496e0 + 4503599627370496e0 else (("c"."cost_usd")) * 1000000000e0 + 4503599627370496e0 - 4503599627370496e0 end as bigint) end as x3,
  case when c.call_rank = 1 and abs(("c"."cost_usd")) < 1e308 and abs((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then cast(case when abs(((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0) >= 4503599627370496e0 then ((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 when ((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 < 0 then ((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 - 4503599627370496e0 + 4503599627370496e0 else ((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 + 4503599627370496e0 - 4503599627370496e0 end as bigint) end as y3,
  case when c.call_rank = 1 and (TRUE) then 1 end as x4,
  case when c.call_rank = 1 and (TRUE) is not null then 1 end as y4,
  s.sx6 as x6,
  s.sy6 as y6
  from ranked c
  left join scored s on s.interaction_id = c.interaction_id
)
select unit_key as past_unit,
  count(x0) as c0,
  count(y0) as d0,
  least(count(x1), 1) as c1,
  least(count(y1), 1) as d1,
  cast(coalesce(sum(x2), 0) as bigint) as c2,
  count(y2) as d2,
  cast(coalesce(sum(x3), 0) as bigint) as c3,
  cast(coalesce(sum(y3), 0) as bigint) as d3,
  count(x4) as c4,
  least(count(y4), 1) as d4,
  cast(coalesce(sum(x6), 0) as bigint) as c6,
  cast(coalesce(sum(y6), 0) as bigint) as d6
from measured
group by unit_key
