-- The search index: which entries of a trail name which actor or subject (docs/format.md, "Search
-- index"). It is derived from the entries, and never decides what a search finds: a row whose MAC is
-- not right is not used. One process at a time builds it, as quire_indexer, which may add rows and
-- read the tags of entries, and nothing else. A wrong row is not replaced: the right one is added
-- beside it, as the MAC is part of the key.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'quire_indexer') THEN
        CREATE ROLE quire_indexer NOLOGIN;
        GRANT quire_indexer TO quire_server;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'the role quire_indexer does not exist and this login may not create it'
        USING HINT = 'As a superuser: CREATE ROLE quire_indexer NOLOGIN; GRANT quire_indexer TO quire_server';
END $$;

CREATE TABLE tag_runs (
    org_id   bigint NOT NULL,
    level    smallint NOT NULL CHECK (level IN (0, 1)),     -- 0: a run, 1: a stretch
    stretch  bigint NOT NULL CHECK (stretch >= 0),          -- number of the run or stretch
    bucket   integer NOT NULL CHECK (bucket >= 0),
    mac      bytea NOT NULL CHECK (octet_length(mac) = 32),
    ended_at timestamptz NOT NULL,                          -- of its last entry, to find its block
    postings bytea NOT NULL CHECK (octet_length(postings) <= 131200),
    PRIMARY KEY (org_id, level, stretch, bucket, mac)
);
ALTER TABLE tag_runs ALTER COLUMN postings SET STORAGE EXTERNAL;    -- sorted numbers hardly compress

CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON tag_runs
    FOR EACH ROW EXECUTE FUNCTION quire_refuse_change();
CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON tag_runs
    FOR EACH STATEMENT EXECUTE FUNCTION quire_refuse_change();

GRANT USAGE ON SCHEMA public TO quire_indexer;
GRANT SELECT (org_id, last_seq, anchored_at, first_seq, last_hash, tags) ON entries TO quire_indexer;
GRANT SELECT (org_id, seq) ON heads TO quire_indexer;
GRANT SELECT (org_id, last_seq) ON departed TO quire_indexer;
GRANT SELECT, INSERT ON tag_runs TO quire_indexer;
GRANT SELECT ON tag_runs TO quire_server;
