-- $from_hour = 1
-- $hour = 2
-- The kept counts of whole hours, added up.
select v.surface, v.experiment_id, v.variant, v.prompt_name, v.prompt_version, v.prompt_sha256, v.model, v.model_version, v.system_fingerprint, v.params_sha256, v.tools_sha256, v.embedding_model_version, v.index_id, v.ruleset_version, v.exposed, v.hour, cast(sum(v.calls) as bigint) as calls, min(v.first_us) as first_us, max(v.last_us) as last_us
from version_hour v
where v.hour >= $from_hour and v.hour < $hour
group by v.surface, v.experiment_id, v.variant, v.prompt_name, v.prompt_version, v.prompt_sha256, v.model, v.model_version, v.system_fingerprint, v.params_sha256, v.tools_sha256, v.embedding_model_version, v.index_id, v.ruleset_version, v.exposed, v.hour
