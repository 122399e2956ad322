-- Manifests that the team has registered: what may run. Never changed; labels, their moves and retirements are in the
-- ledger (kind 'registry'). body: the fields as canonical JSON, whose sha256 is manifest_id; name: an unchanging name of
-- its own, or NULL; surface: where it is meant to run, or NULL; ledger_seq: the entry that registered it.
create table registered_manifest (
  manifest_id varchar not null,
  name varchar,
  surface varchar,
  body varchar not null,
  prompt_text varchar,
  ledger_seq bigint not null
);
-- How many calls ran what, hour by hour (hours since 1970), up to the load in version_state. Derived: it can be emptied at
-- any time. The same key may stand here in several rows, one a load; they add up.
create table version_hour (
  surface varchar,
  experiment_id varchar,
  variant varchar,
  prompt_name varchar,
  prompt_version varchar,
  prompt_sha256 varchar,
  model varchar not null,
  model_version varchar,
  system_fingerprint varchar,
  params_sha256 varchar,
  tools_sha256 varchar,
  embedding_model_version varchar,
  index_id varchar,
  ruleset_version varchar,
  exposed boolean not null,
  hour bigint not null,
  calls bigint not null,
  first_us bigint not null,
  last_us bigint not null
);
-- One row: the last load that version_hour knows, the newest ledger entry after which raw rows were gone, and how many rows
-- version_hour had when it was last put together.
create table version_state (
  file_id bigint not null,
  ledger_seq bigint not null,
  kept_rows bigint not null
);
