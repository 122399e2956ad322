-- The scores of every interaction (as scored.sql adds them up), and when the last of them came.
select s.*{{ arrivals }}
from calibrate_scored s
left join (
  select t.interaction_id{{ latest }}
  from score s
  join {{ score_target }} t on t.score_id = s.score_id
  where s.file_id <= $max_file and t.file_id <= $max_file and t.until_file > $max_file
    and coalesce(s.updated_us, s.ts_us) <= $as_of and s.name in ({{ names }})
  group by t.interaction_id
) a on a.interaction_id = s.interaction_id
