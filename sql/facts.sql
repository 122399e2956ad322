-- What decides how the scan is written: with or without assignments, scores, requests of several attempts, doubled calls.
select
  (select count(*) from assignment where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of) as assignments,
  (select count(*) from score where file_id <= $max_file) as scores,
  (select count(*) from repeated_request) as repeated,
  (select count(*) from twin where file_id <= $max_file) as twins
