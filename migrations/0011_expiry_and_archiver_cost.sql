-- Finished verification jobs expire: the server deletes jobs older than QUIRE_VERIFICATION_DAYS.
CREATE INDEX verifications_finished ON verifications (finished_at) WHERE finished_at IS NOT NULL;

GRANT DELETE ON verifications TO quire_server;

-- The total cost of archiving in a target, for the metrics: one row per target, which is updated.
CREATE TABLE archiver_cost (
    target      text PRIMARY KEY,
    cpu_seconds double precision NOT NULL DEFAULT 0 CHECK (cpu_seconds >= 0),
    objects     bigint NOT NULL DEFAULT 0 CHECK (objects >= 0),
    bytes       bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 40);

GRANT SELECT, INSERT, UPDATE ON archiver_cost TO quire_server;
