-- Frozen constants (as known at event time watermark_us, from files up to file_id), and the append-only, hash-chained ledger of what was decided and done.
create table frozen (
  experiment varchar not null,
  revision integer not null,
  metric varchar not null,
  name varchar not null,
  value double not null,
  source varchar not null,
  watermark_us bigint not null,
  file_id bigint not null
);
create table ledger (
  seq bigint not null,
  kind varchar not null,
  experiment varchar not null,
  revision integer not null,
  recorded_us bigint not null,
  decision_id varchar,
  body varchar not null,
  previous_hash varchar not null,
  hash varchar not null
);
