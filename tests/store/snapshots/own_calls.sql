-- $as_of = 1794000000000000
-- $experiment_0 = "a"
-- $experiment_1 = "c"
-- $experiment_2 = "b"
-- $max_file = 7
-- $since_0 = 3
-- $since_1 = 1794000000000000
-- The calls of some experiments, with the columns that their analyses read: kept once, so that the many readings of an analysis
-- do not each go through all the logs. Of an experiment whose older calls are known only those that are newer are wanted.
select i."attempt", i."attributes", i."cost_usd", i."embedding_model_version", i."experiment_id", i."exposed", i."file_id", i."format_ok", i."index_id", i."interaction_id", i."is_error", i."latency_ms", i."model", i."operation", i."prompt_name", i."prompt_sha256", i."prompt_version", i."refused", i."request_id", i."ruleset_version", i."session_id", i."surface", i."ts_us", i."unit_id", i."variant"
from interaction i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us <= $as_of
  and (i.experiment_id in ($experiment_0, $experiment_1)
    or i.experiment_id in ($experiment_2) and (i.file_id > $since_0 or i.ts_us > $since_1))
order by i.experiment_id
