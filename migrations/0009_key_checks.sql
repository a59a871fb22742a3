-- Which keys this database was made with, so that a start with those of another is refused.
--
-- One row for the master key (key_id is empty) and one for each signing key that was ever in use:
-- a value computed under the key, from which the key can't be found. Written by the first start.
CREATE TABLE key_checks (
    kind     text NOT NULL CHECK (kind IN ('master', 'signing')),
    key_id   text NOT NULL CHECK ((kind = 'master') = (key_id = '')),
    value    bytea NOT NULL CHECK (octet_length(value) = 32),
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, key_id)
);

CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON key_checks
    FOR EACH ROW EXECUTE FUNCTION quire_refuse_change();
CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON key_checks
    FOR EACH STATEMENT EXECUTE FUNCTION quire_refuse_change();
GRANT SELECT, INSERT ON key_checks TO quire_server;
