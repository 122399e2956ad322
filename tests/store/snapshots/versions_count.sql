-- $as_of = 1794000000000000
-- $experiment_id = "sonnet-swap"
-- $max_file = 7
-- $since = -1
-- $start = 1793996400000000
-- $surface = "support"
-- Calls by what they ran (the manifest) and where, with the first and the last of each.
select i.surface, i.prompt_name, i.prompt_version, i.prompt_sha256, i.model, i.model_version, i.system_fingerprint, i.params_sha256, i.tools_sha256, i.embedding_model_version, i.index_id, i.ruleset_version, i.exposed, count(*) as calls, min(i.ts_us) as first_us, max(i.ts_us) as last_us
from interaction i
where i.file_id > $since and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and i.surface = $surface
  and i.experiment_id = $experiment_id
  and ("i"."surface" = 'it''s')
group by i.surface, i.prompt_name, i.prompt_version, i.prompt_sha256, i.model, i.model_version, i.system_fingerprint, i.params_sha256, i.tools_sha256, i.embedding_model_version, i.index_id, i.ruleset_version, i.exposed
