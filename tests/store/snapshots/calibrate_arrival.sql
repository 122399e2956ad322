-- $as_of = 1794000000000000
-- $max_file = 7
-- $score_0 = "helpfulness"
-- $scorer_0 = "judge"
-- The scores of every interaction (as scored.sql adds them up), and when the last of them came.
select s.*, a.at6
from calibrate_scored s
left join (
  select t.interaction_id,
  max(case when s.name = $score_0 and s.scorer_kind = $scorer_0 then coalesce(s.updated_us, s.ts_us) end) as at6
  from score s
  join (
    select t.score_id, coalesce(w.merged_id, t.interaction_id) as interaction_id, t.file_id, t.until_file
    from score_target t
    left join twin w on w.interaction_id = t.interaction_id and w.file_id <= $max_file and w.until_file > $max_file
  ) t on t.score_id = s.score_id
  where s.file_id <= $max_file and t.file_id <= $max_file and t.until_file > $max_file
    and coalesce(s.updated_us, s.ts_us) <= $as_of and s.name in ($score_0)
  group by t.interaction_id
) a on a.interaction_id = s.interaction_id
