-- Hours in which calls were found, or found no more, to be logged by several sources since a load: their counts are old.
select distinct cast(floor(x.ts_us / 3600000000) as bigint) as hour
from interaction x
join twin w on w.interaction_id = x.interaction_id
where (w.file_id > $since and w.file_id <= $max_file) or (w.until_file > $since and w.until_file <= $max_file)
union
select distinct cast(floor(m.ts_us / 3600000000) as bigint) as hour
from merged_interaction m
where (m.file_id > $since and m.file_id <= $max_file) or (m.until_file > $since and m.until_file <= $max_file)
