-- $max_file = 7
-- The answers that were kept as text, by call.
select x.interaction_id as interaction_id, max(x.response_text) as response_text
from interaction_text x
where x.file_id <= $max_file and x.response_text is not null
  and x.interaction_id in (select a.interaction_id from shadow_answer a)
group by x.interaction_id
