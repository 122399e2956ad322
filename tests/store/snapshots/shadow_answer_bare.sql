-- $as_of = 1794000000000000
-- $control = "baseline"
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $start = 0
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
  count(r.y2) as y2
from (
  select c.*,
  case when c.call_rank = 1 and ("c"."refused") then 1 end as x0,
  case when c.call_rank = 1 and ("c"."refused") is not null then 1 end as y0,
  case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") then 1 end as x1,
  case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") is not null then 1 end as y1,
  case when abs(("c"."latency_ms" / NULLIF((1000), 0))) < 1e308 then cast(case when abs((("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0) >= 4503599627370496e0 then (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 when (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 < 0 then (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 - 4503599627370496e0 + 4503599627370496e0 else (("c"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 + 4503599627370496e0 - 4503599627370496e0 end as bigint) end as x2,
  case when abs(("c"."latency_ms" / NULLIF((1000), 0))) < 1e308 then 1 end as y2
  from (
    select k.*,
      row_number() over (
        partition by k.unit_key, k.arm, k.request_key
        order by k.ts_us asc, coalesce(k.attempt, 0) asc, k.interaction_id asc
      ) as call_rank,
      min(k.ts_us) over (partition by k.unit_key, k.arm, k.request_key) as head_us
    from (
-- Calls as the shadow stage sees them, silent ones too: whose, which arm, which request, the how many-th answer to it.
select coalesce(i.request_id, i.interaction_id) as pair_key, i."session_id" as unit_key, case when not i.exposed and i.experiment_id = $experiment and i.variant is not null and i.variant = $treatment then $treatment when not i.exposed then case when i.experiment_id = $experiment and i.variant is not null and i.repeat is not null then i.variant end else i.variant end as arm, i.ts_us, case when i.exposed then 0 else 1 end as silent, case when true then 1 else 0 end as in_population, i.interaction_id, coalesce(i.repeat, 0) as nth, cast(coalesce(i.repeat, 0) as varchar) || case when i.exposed then '+' else '-' end || coalesce(i.request_id, i.interaction_id) as request_key, i."attempt", i."embedding_model_version", i."finish_reason", i."format_ok", i."index_id", i."is_error", i."latency_ms", i."model", i."prompt_name", i."prompt_sha256", i."prompt_version", i."refused", i."repeat", i."ruleset_version", i."turn"
from interaction i
where i.file_id <= $max_file and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and i.experiment_id = $experiment
    ) k
    where k.pair_key in (select w.pair_key from shadow_wanted w)
      and (k.arm = $treatment or (k.arm = $control and k.in_population = 1 and k.ts_us >= $start))
  ) c
) r
group by r.pair_key, r.unit_key, r.arm, r.silent, r.nth
