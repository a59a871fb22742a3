-- The doubts of the signer that an operator accepted by a thaw: an org whose tree stands at this size,
-- stopped by this kind of doubt, takes appends although they stay unsigned.
CREATE TABLE accepted_doubts (
    org_id      bigint NOT NULL,
    size        bigint NOT NULL,
    kind        text NOT NULL,
    accepted_at timestamptz NOT NULL,
    key_id      text NOT NULL,      -- of the API key that thawed the org
    mac         bytea NOT NULL,     -- see docs/format.md, "Rows that decide"
    PRIMARY KEY (org_id, size, kind, accepted_at)
);
CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON accepted_doubts
    FOR EACH ROW EXECUTE FUNCTION quire_refuse_change();
CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON accepted_doubts
    FOR EACH STATEMENT EXECUTE FUNCTION quire_refuse_change();
GRANT SELECT, INSERT ON accepted_doubts TO quire_server;
