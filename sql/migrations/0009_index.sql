-- Recorded looks at an index (abtest index-drift --record, index-compare --record). Each is a load of its own: file_id is its
-- number in file_ledger, as_of_us the newest event when it was made, so that an older decision replays without it.
-- kind: 'drift' or 'compare'. experiment, index_id: what it concerns; NULL: all. body: the JSON contract.
create table index_check (
  check_id varchar not null,
  kind varchar not null,
  experiment varchar,
  index_id varchar,
  as_of_us bigint not null,
  file_id bigint not null,
  recorded_us bigint not null,
  exit_code integer not null,
  body varchar not null
);
