-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- Calls by arm and manifest (what was running): more than one manifest inside an arm mixes versions.
select arm, "model", "prompt_name", "prompt_version", "prompt_sha256", "embedding_model_version", "index_id", "ruleset_version", count(*) as calls, min(ts_us) as first_us, max(ts_us) as last_us
from request
where unit_id is not null and arm is not null and arm in ($arm_0, $arm_1)
group by arm, "model", "prompt_name", "prompt_version", "prompt_sha256", "embedding_model_version", "index_id", "ruleset_version"
order by arm, calls desc, "model", "prompt_name", "prompt_version", "prompt_sha256", "embedding_model_version", "index_id", "ruleset_version"
