-- Signed trees: a Merkle tree over each trail, its tiles, every checkpoint ever signed,
-- and the log of checkpoints (the anchor log), which is the tree of org 0.

-- A public org's log is read without a key.
ALTER TABLE orgs ADD COLUMN log_public boolean NOT NULL DEFAULT false;
GRANT UPDATE (log_public) ON orgs TO quire_server;

-- One row per tree, which the signer locks before it signs. The other tables are append-only.
CREATE TABLE trees (
    org_id         bigint PRIMARY KEY,
    size           bigint NOT NULL DEFAULT 0,
    root           bytea NOT NULL,
    -- Time of the newest entry in the tree: later entries have the same time or a later one.
    anchored_at    timestamptz NOT NULL DEFAULT 'epoch',
    -- When its newest checkpoint was added to the anchor log.
    signed_at      timestamptz NOT NULL DEFAULT 'epoch',
    stopped_at     timestamptz,
    stopped_reason text
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.05);
-- Each second the servers look for stopped trees, of which there are few.
CREATE INDEX trees_stopped ON trees (org_id) WHERE stopped_at IS NOT NULL;

-- Tiles (C2SP tlog-tiles) in parts: a tile consists of its parts in the order of start. No row
-- is ever changed, so the cost of a checkpoint is that of the hashes it adds.
CREATE TABLE tile_parts (
    org_id bigint NOT NULL,
    level  smallint NOT NULL,
    tile   bigint NOT NULL,
    start  smallint NOT NULL CHECK (start BETWEEN 0 AND 255),   -- of its first hash in the tile
    hashes bytea NOT NULL CHECK (octet_length(hashes) BETWEEN 32 AND 8192),
    PRIMARY KEY (org_id, level, tile, start)
);
ALTER TABLE tile_parts ALTER COLUMN hashes SET STORAGE EXTERNAL;    -- hashes do not compress

CREATE TABLE checkpoints (
    org_id    bigint NOT NULL,
    size      bigint NOT NULL,
    root      bytea NOT NULL CHECK (octet_length(root) = 32),
    note      bytea NOT NULL,       -- the C2SP signed note
    signed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (org_id, size)
);

-- The leaves of the anchor log. Without the nonce a leaf reveals nothing about the org.
CREATE TABLE anchor_leaves (
    idx    bigint PRIMARY KEY,
    org_id bigint NOT NULL,
    size   bigint NOT NULL,
    nonce  bytea NOT NULL CHECK (octet_length(nonce) = 32),
    leaf   bytea NOT NULL CHECK (octet_length(leaf) = 32)
);
CREATE INDEX anchor_leaves_of ON anchor_leaves (org_id, size, idx);

-- Tokens and cosignatures obtained for an anchor after it was signed; new rows never replace
-- older ones.
CREATE TABLE anchor_tokens (
    size     bigint NOT NULL,
    added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    gen_time timestamptz NOT NULL,
    token    bytea NOT NULL,        -- RFC 3161 TimeStampResp or token, DER
    PRIMARY KEY (size, added_at)
);
CREATE TABLE anchor_cosignatures (
    size     bigint NOT NULL,
    witness  text NOT NULL,         -- key name and key id: name+hhhhhhhh
    added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    line     bytea NOT NULL,        -- one signature line of the note, with its newline
    PRIMARY KEY (size, witness, added_at)
);

-- The public history of the log's signing keys: one signed statement per key.
CREATE TABLE log_keys (
    position  integer PRIMARY KEY,
    statement bytea NOT NULL,
    added_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tile_parts', 'checkpoints', 'anchor_leaves', 'anchor_tokens',
                                'anchor_cosignatures', 'log_keys'] LOOP
        EXECUTE format('CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON %I
                        FOR EACH ROW EXECUTE FUNCTION quire_refuse_change()', name);
        EXECUTE format('CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION quire_refuse_change()', name);
        EXECUTE format('GRANT SELECT ON %I TO quire_server', name);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO quire_signer', name);
    END LOOP;
END $$;
-- Only the signer writes what it signed. The server's role can neither plant a row nor stop a tree.
GRANT SELECT ON trees TO quire_server;
GRANT SELECT, INSERT, UPDATE ON trees TO quire_signer;
