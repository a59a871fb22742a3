-- Snapshots of the register, which is folded from the trail "system" (docs/format.md, "The register").
-- A start folds the entries after the newest one; without any, it folds the whole trail. A row whose
-- MAC is not right is not used, and an older one only costs time.
CREATE TABLE register_snapshots (
    seq        bigint PRIMARY KEY,      -- of the last folded entry
    entry_hash bytea NOT NULL,
    state      bytea NOT NULL,
    mac        bytea NOT NULL,
    added_at   timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON register_snapshots
    FOR EACH ROW EXECUTE FUNCTION quire_refuse_change();
CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON register_snapshots
    FOR EACH STATEMENT EXECUTE FUNCTION quire_refuse_change();
GRANT SELECT, INSERT ON register_snapshots TO quire_server;
