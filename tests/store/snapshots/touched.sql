-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $since_file = 3
-- $since_us = 1793999999999999
-- Units about whom there is something new since a state was kept: a call, an assignment, a score, a call found to be doubled.
-- recount: their old rows may read differently now, so all of them are read again.
select unit_id, max(recount) as recount
from (
  select i."session_id" as unit_id,
    case when i.request_id is not null and i.request_id in (select request_id from repeated_request) then 1 else 0 end as recount
  from interaction i
  where i.file_id <= $max_file and i.ts_us <= $as_of and (i.file_id > $since_file or i.ts_us > $since_us)
  union all
  select a.unit_id, 1 as recount
  from assignment a
  where a.experiment_id = $experiment and a.file_id <= $max_file and a.ts_us <= $as_of
    and (a.file_id > $since_file or a.ts_us > $since_us)
  union all
  select i."session_id" as unit_id, 1 as recount
  from score s
  join score_target t on t.score_id = s.score_id
  join interaction i on i.interaction_id = t.interaction_id
  where s.file_id <= $max_file and i.file_id <= $since_file and i.ts_us <= $since_us
    and (s.file_id > $since_file or coalesce(s.updated_us, s.ts_us) > $since_us
      or t.file_id > $since_file or (t.until_file > $since_file and t.until_file <= $max_file))
  union all
  select i."session_id" as unit_id, 1 as recount
  from score s
  join score_target t on t.score_id = s.score_id
  join twin w on w.interaction_id = t.interaction_id
  join merged_interaction i on i.interaction_id = w.merged_id
  where s.file_id <= $max_file
    and (s.file_id > $since_file or coalesce(s.updated_us, s.ts_us) > $since_us
      or t.file_id > $since_file or (t.until_file > $since_file and t.until_file <= $max_file))
  union all
  select i."session_id" as unit_id, 1 as recount
  from twin w
  join interaction i on i.interaction_id = w.interaction_id
  where w.file_id <= $max_file and (w.file_id > $since_file or (w.until_file > $since_file and w.until_file <= $max_file))
  union all
  select i."session_id" as unit_id, 1 as recount
  from merged_interaction i
  where i.file_id <= $max_file and (i.file_id > $since_file or (i.until_file > $since_file and i.until_file <= $max_file))
) news
where unit_id is not null
group by unit_id
