-- $experiment_id = "sonnet-swap"
-- $from_hour = 1
-- $hour = 2
-- $surface = "support"
-- The kept counts of whole hours, added up.
select v.surface, v.prompt_name, v.prompt_version, v.prompt_sha256, v.model, v.model_version, v.system_fingerprint, v.params_sha256, v.tools_sha256, v.embedding_model_version, v.index_id, v.ruleset_version, v.exposed, cast(sum(v.calls) as bigint) as calls, min(v.first_us) as first_us, max(v.last_us) as last_us
from version_hour v
where v.hour >= $from_hour and v.hour < $hour
  and v.surface = $surface
  and v.experiment_id = $experiment_id
  and ("v"."surface" = 'it''s')
group by v.surface, v.prompt_name, v.prompt_version, v.prompt_sha256, v.model, v.model_version, v.system_fingerprint, v.params_sha256, v.tools_sha256, v.embedding_model_version, v.index_id, v.ruleset_version, v.exposed
