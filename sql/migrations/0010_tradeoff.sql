-- What was said about techniques (`abtest tradeoff --record`), as it was said: body is abtest.tradeoff/1. file_id: the last load that
-- was seen. choice: the technique that is proven; NULL while it is not decidable.
create table tradeoff_check (
  id varchar not null,
  revision integer not null,
  experiment varchar not null,
  as_of varchar,
  file_id bigint not null,
  recorded_us bigint not null,
  policy_sha256 varchar not null,
  verdict varchar not null,
  choice varchar,
  body varchar not null
);
