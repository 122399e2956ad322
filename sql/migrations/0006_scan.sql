-- Requests that were logged with more than one call, whoever sent them: only these need their attempts ranked. A request may
-- stand here more than once, and one too many does no harm; a missing one would. Ingest adds, `abtest rebuild` makes it anew.
create table repeated_request (request_id varchar not null);
insert into repeated_request
select request_id
from interaction
where request_id is not null
group by request_id
having count(*) > 1;
-- Aggregates of the newest analysis of each experiment, so that the next one reads only what is new. Derived: they can be
-- thrown away at any time. shape: the hash of everything that decides what the numbers mean.
create table scan_state (
  experiment varchar not null,
  revision integer not null,
  shape varchar not null,
  tables varchar not null,
  as_of_us bigint not null,
  file_id bigint not null,
  ledger_seq bigint not null,
  body varchar not null
);
-- How the evidence of large experiments grew: the sums at the watermark of earlier analyses, at most one an hour.
create table scan_point (
  experiment varchar not null,
  revision integer not null,
  shape varchar not null,
  as_of_us bigint not null,
  body varchar not null
);
