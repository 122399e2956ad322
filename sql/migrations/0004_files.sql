-- Files that grow, move and come again. A row of the ledger is a piece: bytes start_byte to start_byte + bytes of an
-- unpacked file that began with the pieces parent_id, its parent and so on. NULL in head: taken before there were pieces.
-- root_id: the first piece of that file. end_number: numbered texts (lines) before the end of the piece. head and tail: digests of its first and last bytes.
alter table file_ledger add column parent_id bigint;
alter table file_ledger add column root_id bigint;
alter table file_ledger add column start_byte bigint default 0;
alter table file_ledger add column end_number bigint;
alter table file_ledger add column head varchar;
alter table file_ledger add column tail varchar;
alter table file_ledger add column container varchar;

-- How files looked when everything in them was known: a look at an unchanged one costs no reading. Only a cache, made
-- anew when rows are deleted. file_id: the last piece that the file holds. waiting: an unfinished end was left in it.
create table file_state (
  path varchar not null,
  inode varchar not null,
  size bigint not null,
  mtime_ns bigint not null,
  looked_ns bigint not null,
  file_id bigint,
  waiting boolean not null
);
