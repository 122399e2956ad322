-- Messages for webhooks: written with the ledger entry of their decision, kept until the receiver has accepted them.
-- event_id is the webhook-id, the same at every attempt; body is sent as it stands here; delivered_us is NULL while a
-- message waits; next_us is the earliest next attempt; problem is what the last attempt met. The secret is never here,
-- only the name of its environment variable.
create table outbox (
  event_id varchar not null,
  experiment varchar not null,
  revision integer not null,
  decision_id varchar not null,
  url varchar not null,
  secret_env varchar not null,
  body varchar not null,
  created_us bigint not null,
  attempts integer not null,
  next_us bigint not null,
  delivered_us bigint,
  problem varchar
);
-- Addresses that answered 410 Gone: nothing is sent there any more.
create table outbox_gone (
  url varchar not null,
  at_us bigint not null
);
