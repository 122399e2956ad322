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
  max(case when r.call_rank = 1 then case when r.is_error then 1 else 0 end end) as is_error{{ totals }}
from (
  select c.*{{ tallies }}
  from (
    select k.*,
      row_number() over (
        partition by k.unit_key, k.arm, k.request_key
        order by k.ts_us {{ call_order }}, coalesce(k.attempt, 0) {{ call_order }}, k.interaction_id {{ call_order }}
      ) as call_rank,
      {{ head_time }}(k.ts_us) over (partition by k.unit_key, k.arm, k.request_key) as head_us
    from (
{{ calls }}
    ) k
    where k.pair_key in (select w.pair_key from shadow_wanted w)
      and (k.arm = $treatment or (k.arm = $control and k.in_population = 1 and k.ts_us >= $start))
  ) c{{ scores }}
) r
group by r.pair_key, r.unit_key, r.arm, r.silent, r.nth
