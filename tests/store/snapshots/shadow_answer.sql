-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- $as_of = 1794000000000000
-- $control = "baseline"
-- $experiment = "sonnet-swap"
-- $limit_0 = 900.0
-- $limit_1 = 1260.0
-- $manifest_0 = "sonnet"
-- $manifest_1 = "v13"
-- $manifest_2 = "gpt"
-- $max_file = 7
-- $start = 1793491200000000
-- $treatment = "candidate"
-- One row per answer to a wanted request: its attempts (of which the last, or the first, stands for it) added up. Repeated
-- answers of one arm to one request, and an answer that was seen beside one that was not, are answers of their own.
select r.pair_key, r.unit_key, r.arm, r.silent, r.nth, max(r.turn) as turn, max(r.ts_us) as ts_us,
  max(case when r.call_rank = 1 then r.model end) as model,
  max(case when r.call_rank = 1 then r.prompt_name end) as prompt_name,
  max(case when r.call_rank = 1 then r.prompt_version end) as prompt_version,
  max(case when r.call_rank = 1 then r.prompt_sha256 end) as prompt_sha256,
  max(case when r.call_rank = 1 then r.embedding_model_version end) as embedding_model_version,
  max(case when r.call_rank = 1 then r.index_id end) as index_id,
  max(case when r.call_rank = 1 then r.ruleset_version end) as ruleset_version,
  max(case when r.call_rank = 1 then r.interaction_id end) as interaction_id,
  max(case when r.call_rank = 1 then r.finish_reason end) as finish_reason,
  max(case when r.call_rank = 1 then case when r.refused then 1 when not r.refused then 0 end end) as refused,
  max(case when r.call_rank = 1 then case when r.format_ok then 1 when not r.format_ok then 0 end end) as format_ok,
  max(case when r.call_rank = 1 then case when r.is_error then 1 else 0 end end) as is_error,
  count(r.x0) as x0,
  count(r.y0) as y0,
  count(r.x1) as x1,
  count(r.y1) as y1,
  cast(coalesce(sum(r.x2), 0) as bigint) as x2,
  count(r.y2) as y2,
  cast(coalesce(sum(r.x3), 0) as bigint) as x3,
  cast(coalesce(sum(r.y3), 0) as bigint) as y3,
  count(r.x3) as k3,
  count(r.x4) as x4,
  count(r.y4) as y4,
  count(r.x5) as x5,
  count(r.y5) as y5,
  max(r.v5) as v5,
  cast(coalesce(sum(r.x6), 0) as bigint) as x6,
  cast(coalesce(sum(r.y6), 0) as bigint) as y6,
  cast(coalesce(sum(r.x7), 0) as bigint) as x7,
  cast(coalesce(sum(r.y7), 0) as bigint) as y7
from (
  select c.*,
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
  case when c.call_rank = 1 and abs(("c"."latency_ms")) < 1e308 and ("c"."latency_ms") > (case when c.arm = $arm_0 then $limit_0 else $limit_1 end) then 1 end as x5,
  case when c.call_rank = 1 and abs(("c"."latency_ms")) < 1e308 then 1 end as y5,
  case when c.call_rank = 1 and abs(("c"."latency_ms")) < 1e308 then cast(("c"."latency_ms") as double) end as v5,
  s.sx6 as x6,
  s.sy6 as y6,
  s.sx7 as x7,
  s.sy7 as y7
  from (
    select k.*,
      row_number() over (
        partition by k.unit_key, k.arm, k.request_key
        order by k.ts_us desc, coalesce(k.attempt, 0) desc, k.interaction_id desc
      ) as call_rank,
      max(k.ts_us) over (partition by k.unit_key, k.arm, k.request_key) as head_us
    from (
-- Calls as the shadow stage sees them, silent ones too: whose, which arm, which request, the how many-th answer to it.
select coalesce(i.request_id, i.interaction_id) as pair_key, i."session_id" as unit_key, case when not i.exposed and i.experiment_id = $experiment and i.variant is not null and i.variant = $treatment then $treatment when not i.exposed and (i."model" = $manifest_0 and i."prompt_version" = $manifest_1) then $arm_1 when not i.exposed and (i."model" = $manifest_2) then $arm_0 when not i.exposed then cast(null as varchar) else case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end end as arm, i.ts_us, case when i.exposed then 0 else 1 end as silent, case when ("i"."surface" = 'it''s "support"') then 1 else 0 end as in_population, i.interaction_id, coalesce(i.repeat, 0) as nth, cast(coalesce(i.repeat, 0) as varchar) || case when i.exposed then '+' else '-' end || coalesce(i.request_id, i.interaction_id) as request_key, i."attempt", i."attributes", i."cost_usd", i."embedding_model_version", i."finish_reason", i."format_ok", i."index_id", i."is_error", i."latency_ms", i."model", i."prompt_name", i."prompt_sha256", i."prompt_version", i."refused", i."repeat", i."ruleset_version", i."turn"
from (
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "finish_reason", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "repeat", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "turn", "unit_id", "variant" from interaction x
  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id
    and w.file_id <= $max_file and w.until_file > $max_file)
  union all
  select "attempt", "attributes", "cost_usd", "embedding_model_version", "experiment_id", "exposed", "file_id", "finish_reason", "format_ok", "index_id", "interaction_id", "is_error", "latency_ms", "model", "operation", "prompt_name", "prompt_sha256", "prompt_version", "refused", "repeat", "request_id", "ruleset_version", "session_id", "surface", "ts_us", "turn", "unit_id", "variant" from merged_interaction where file_id <= $max_file and until_file > $max_file
) i
left join assigned a on a.unit_id = i."session_id" and a.from_us <= i.ts_us and (a.until_us is null or i.ts_us < a.until_us)
where i.file_id <= $max_file and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
    ) k
    where k.pair_key in (select w.pair_key from shadow_wanted w)
      and (k.arm = $treatment or (k.arm = $control and k.in_population = 1 and k.ts_us >= $start))
  ) c
  left join scored s on s.interaction_id = c.interaction_id
) r
group by r.pair_key, r.unit_key, r.arm, r.silent, r.nth
