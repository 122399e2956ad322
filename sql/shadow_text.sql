-- The answers that were kept as text, by call.
select {{ call }} as interaction_id, max(x.response_text) as response_text
from interaction_text x{{ joins }}
where x.file_id <= $max_file and x.response_text is not null
  and {{ call }} in (select a.interaction_id from shadow_answer a)
group by {{ call }}
