-- One call that several sources have logged, what a load must keep out, and what the store remembers about itself.
-- Derived rows are never changed in what they say: file_id is the load since which a row holds, until_file the load at
-- which another one took its place (2^62: it holds now). A replay up to load n reads file_id <= n AND until_file > n.

-- Rows of interaction that tell of the same call. merged_id: the interaction_id of the row in merged_interaction.
CREATE TABLE twin (
    interaction_id VARCHAR NOT NULL,
    merged_id VARCHAR NOT NULL,
    file_id BIGINT NOT NULL,
    until_file BIGINT NOT NULL
);

-- The one row that stands for all members; its id is the id of the member that says most (see sql/load/twin_group.sql).
CREATE TABLE merged_interaction AS
SELECT *, CAST(NULL AS BIGINT) AS until_file
FROM interaction
WHERE FALSE;

-- Pairs that share an id of the call and still are two calls, with the reason: 'variant' (both name one, not the same)
-- or 'source' (one source has logged two calls that would become one). id_a < id_b.
CREATE TABLE twin_conflict (
    id_a VARCHAR NOT NULL,
    id_b VARCHAR NOT NULL,
    reason VARCHAR NOT NULL
);

-- A later interaction may be a surer target, or make one ambiguous.
ALTER TABLE score_target ADD COLUMN until_file BIGINT DEFAULT 4611686018427387904;

-- Scores that fit several calls; they wait in the table score and count nowhere. calls: how many; detail: which.
CREATE TABLE ambiguous_score (
    score_id VARCHAR NOT NULL,
    calls BIGINT NOT NULL,
    detail VARCHAR NOT NULL
);

-- What the store remembers: 'unit_ids' (hashed with which key), 'pruned_before_us', 'forget_salt'.
CREATE TABLE setting (
    name VARCHAR NOT NULL,
    value VARCHAR NOT NULL
);

-- What was forgotten, as salted hashes. kind: 'unit', or a key of a forgotten call ('call', 'response', 'span', 'trace',
-- 'request'), so that its rows without a unit and its scores stay out too.
CREATE TABLE forgotten (
    kind VARCHAR NOT NULL,
    hash VARCHAR NOT NULL,
    at_us BIGINT NOT NULL
);
