-- An experiment's calls by arm, index and embedding model: of the query, and of the index where the log says that too.
select arm, index_id, embedding_model_version as version, segment as index_version,
  count(*) as calls, min(ts_us) as first_us, max(ts_us) as last_us
from (
{{ calls }}
) used
where index_id is not null or embedding_model_version is not null
group by arm, index_id, embedding_model_version, segment
