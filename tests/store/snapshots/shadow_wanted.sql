-- $arm_0 = "candidate"
-- $arm_1 = "baseline"
-- $as_of = 1794000000000000
-- $control = "baseline"
-- $experiment = "sonnet-swap"
-- $manifest_0 = "sonnet"
-- $manifest_1 = "v13"
-- $manifest_2 = "gpt"
-- $max_file = 7
-- $treatment = "candidate"
-- The requests that the treatment answered without being seen, or that others answered too: only these can be pairs. Requests of
-- control whose answer was repeated are wanted as well, for the noise floor.
select distinct k.pair_key
from (
-- Calls as the shadow stage sees them, silent ones too: whose, which arm, which request, the how many-th answer to it.
select coalesce(i.request_id, i.interaction_id) as pair_key, i."session_id" as unit_key, case when not i.exposed and i.experiment_id = $experiment and i.variant is not null and i.variant = $treatment then $treatment when not i.exposed and (i."model" = $manifest_0 and i."prompt_version" = $manifest_1) then $arm_0 when not i.exposed and (i."model" = $manifest_2) then $arm_1 when not i.exposed then cast(null as varchar) else case when i.experiment_id = $experiment and i.variant is not null then i.variant when a.variant is not null then a.variant end end as arm, i.ts_us, case when i.exposed then 0 else 1 end as silent, case when ("i"."surface" = 'it''s "support"') then 1 else 0 end as in_population, case when i.request_id is not null and i.request_id in (select q.request_id from repeated_request q) then 1 else 0 end as several, case when i.repeat is not null then 1 else 0 end as repeated
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
where (k.arm = $treatment and (k.silent = 1 or k.several = 1)) or (k.repeated = 1 and k.arm in ($control, $treatment))
