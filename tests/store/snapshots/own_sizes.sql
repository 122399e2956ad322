-- $experiment_0 = "a"
-- $experiment_1 = "b"
-- $experiment_2 = "c"
-- $max_file = 7
-- How many logged calls name each of some experiments.
select experiment_id, count(*) as calls
from interaction
where experiment_id in ($experiment_0, $experiment_1, $experiment_2) and file_id <= $max_file
group by experiment_id
