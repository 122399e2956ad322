-- $arm_0 = "baseline"
-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $limit_0 = 900.0
-- $limit_1 = 1260.0
-- $max_file = 7
-- $start = 0
-- Calls by what became of them and by what they ran (the manifest), with a first look at the numbers that will be added up.
select arm, "model", "prompt_name", "prompt_version", "prompt_sha256", "embedding_model_version", "index_id", "ruleset_version", not_randomised, case when unit_id is null then 1 else 0 end as no_unit, count(*) as calls,
  count(head) as requests, min(ts_us) as first_us, max(ts_us) as last_us,
  max(abs(t4)) as largest_t4,
  max(abs(t6)) as largest_t6,
  max(abs(t7)) as largest_t7,
  count(t0) as requests_t0,
  count(t1) as requests_t1,
  count(t2) as requests_t2,
  count(t3) as requests_t3,
  count(t5) as calls_t5,
  count(t8) as requests_t8,
  count(t9) as requests_t9,
  count(t10) as requests_t10,
  count(t11) as requests_t11,
  count(t1) as known_0,
  count(t3) as known_1,
  count(t5) as known_2,
  count(t7) as known_3,
  count(t9) as known_4,
  count(t11) as known_5,
  count(case when t13 > 0 then 1 end) as known_6
from (
-- One row per model call of the experiment: who (unit), which arm, which stage, when, and what it measured. A call's arm is
-- its own variant; else what its unit was assigned at that moment; else, where logs carry no variant, the manifest it ran.
-- Rows without a unit or an arm stay, so that they can be counted.
select i."session_id" as unit_id, i.variant as arm, i.ts_us, i.ts_us as head_us, 1 as head, 0 as stage, 0 = 1 as not_randomised, i."model", i."prompt_name", i."prompt_version", i."prompt_sha256", i."embedding_model_version", i."index_id", i."ruleset_version", case when ("i"."refused") then 1 end as t0, case when ("i"."refused") is not null then 1 end as t1, case when ("i"."format_ok" AND NOT "i"."is_error") then 1 end as t2, case when ("i"."format_ok" AND NOT "i"."is_error") is not null then 1 end as t3, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then (("i"."latency_ms" / NULLIF((1000), 0))) * 1000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t4, case when abs(("i"."latency_ms" / NULLIF((1000), 0))) < 1e308 then 1 end as t5, case when abs(("i"."cost_usd")) < 1e308 and abs((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then (("i"."cost_usd")) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t6, case when abs(("i"."cost_usd")) < 1e308 and abs((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) < 1e308 then ((CASE WHEN ("i"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END)) * 1000000000e0 + 6755399441055744e0 - 6755399441055744e0 end as t7, case when (TRUE) then 1 end as t8, case when (TRUE) is not null then 1 end as t9, case when abs(("i"."latency_ms")) < 1e308 and ("i"."latency_ms") > (case when (i.variant) = $arm_0 then $limit_0 else $limit_1 end) then 1 end as t10, case when abs(("i"."latency_ms")) < 1e308 then 1 end as t11, cast(null as bigint) as t12, cast(null as bigint) as t13
from interaction i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and i.experiment_id = $experiment
  and true
) r
group by arm, "model", "prompt_name", "prompt_version", "prompt_sha256", "embedding_model_version", "index_id", "ruleset_version", not_randomised, case when unit_id is null then 1 else 0 end
