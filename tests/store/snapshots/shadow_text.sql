-- $max_file = 7
-- The answers that were kept as text, by call.
select coalesce(w.merged_id, x.interaction_id) as interaction_id, max(x.response_text) as response_text
from interaction_text x
left join twin w on w.interaction_id = x.interaction_id and w.file_id <= $max_file and w.until_file > $max_file
where x.file_id <= $max_file and x.response_text is not null
  and coalesce(w.merged_id, x.interaction_id) in (select a.interaction_id from shadow_answer a)
group by coalesce(w.merged_id, x.interaction_id)
