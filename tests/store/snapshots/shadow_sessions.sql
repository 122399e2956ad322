-- $arm_0 = "candidate"
-- $arm_1 = "baseline"
-- $as_of = 1794000000000000
-- $control = "baseline"
-- $experiment = "sonnet-swap"
-- $first = 0
-- $last = 1794000000000000
-- $manifest_0 = "sonnet"
-- $manifest_1 = "v13"
-- $manifest_2 = "gpt"
-- $max_file = 7
-- $treatment = "candidate"
-- Control's sessions while requests were mirrored: how many had a request mirrored, and of those with several requests how
-- many had only a part of them mirrored.
select count(*) as sessions, coalesce(sum(case when s.mirrored > 0 then 1 else 0 end), 0) as mirrored,
  coalesce(sum(case when s.mirrored > 0 and s.requests > 1 then 1 else 0 end), 0) as several,
  coalesce(sum(case when s.mirrored > 0 and s.mirrored < s.requests then 1 else 0 end), 0) as partly,
  coalesce(sum(s.requests), 0) as requests, coalesce(sum(s.mirrored), 0) as mirrored_requests
from (
  select q.session_key, count(*) as requests, sum(q.mirrored) as mirrored
  from (
    select k.session_key, k.pair_key,
      max(case when k.pair_key in (select p.pair_key from shadow_pair p) then 1 else 0 end) as mirrored
    from (
-- Calls as the shadow stage sees them, silent ones too: whose, which arm, which request, the how many-th answer to it.
select coalesce(i.request_id, i.interaction_id) as pair_key, i."session_id" as unit_key, case when not i.exposed and i.experiment_id = $experiment and i.variant is not null and i.variant = $treatment then $treatment when not i.exposed and (i."model" = $manifest_0 and i."prompt_version" = $manifest_1) then $arm_0 when not i.exposed and (i."model" = $manifest_2) then $arm_1 when not i.exposed then cast(null as varchar) else case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end end as arm, i.ts_us, case when i.exposed then 0 else 1 end as silent, case when ("i"."surface" = 'it''s "support"') then 1 else 0 end as in_population, coalesce(i.session_id, i.unit_id) as session_key
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
    where k.arm = $control and k.silent = 0 and k.in_population = 1 and k.ts_us >= $first and k.ts_us <= $last
      and k.session_key is not null
    group by k.session_key, k.pair_key
  ) q
  group by q.session_key
) s
