-- Check values of the keys that belong to this database, so that a start with other keys is
-- refused.
--
-- One row for the master key (key_id is empty) and one for each signing key that was ever in use:
-- a value computed under the key, which does not reveal the key. The first start writes it.
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
GRANT SELECT ON key_checks TO quire_signer;
