-- The archived part of each org: a row is added once everything up to a checkpoint is stored
-- and was read back correctly.

CREATE TABLE archived (
    target      text NOT NULL,          -- URL of the target it is stored in
    org_id      bigint NOT NULL,        -- 0: the log of all checkpoints
    size        bigint NOT NULL,        -- of the checkpoint up to which all is archived
    leaves      bigint NOT NULL,        -- anchor leaves with a lower idx, of this org, are archived
    root        bytea NOT NULL CHECK (octet_length(root) = 32),
    objects     bigint NOT NULL,        -- objects of the org so far, new or already stored
    bytes       bigint NOT NULL,
    archived_at timestamptz NOT NULL,
    mac         bytea NOT NULL,         -- see docs/format.md, "Rows that decide"
    PRIMARY KEY (target, org_id, size, leaves, mac)    -- so that a planted row is in no row's way
);
CREATE INDEX archived_org ON archived (org_id);        -- a verification reads the rows of an org

-- The archived tokens and cosignatures of anchors: they arrive after their anchor, in any order.
CREATE TABLE archived_attestations (
    target      text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('token', 'cosignature')),
    size        bigint NOT NULL,
    witness     text NOT NULL,          -- '' for a token
    added_at    timestamptz NOT NULL,
    mac         bytea NOT NULL,         -- see docs/format.md, "Rows that decide"
    PRIMARY KEY (target, kind, size, witness, added_at, mac)
);

-- The reason why an org can't be archived at present; the row is deleted once it is archived.
CREATE TABLE archive_problems (
    target      text NOT NULL,
    org_id      bigint NOT NULL,
    reason      text NOT NULL,
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    tried_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (target, org_id)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['archived', 'archived_attestations'] LOOP
        EXECUTE format('CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON %I
                        FOR EACH ROW EXECUTE FUNCTION quire_refuse_change()', name);
        EXECUTE format('CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION quire_refuse_change()', name);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO quire_server', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON archive_problems TO quire_server;
