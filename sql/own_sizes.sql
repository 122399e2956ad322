-- How many logged calls name each of some experiments.
select experiment_id, count(*) as calls
from interaction
where experiment_id in ({{ experiments }}) and file_id <= $max_file
group by experiment_id
