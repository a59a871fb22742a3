-- Verification jobs. They are in a table so that every server process can answer for
-- any job, and so that the jobs of a dead process are detected.

CREATE TABLE verifications (
    id           text PRIMARY KEY,
    org_id       bigint NOT NULL REFERENCES orgs (id),
    -- NULL means from the first entry, or up to the head.
    from_seq     bigint,
    to_seq       bigint,
    state        text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
    processed    bigint NOT NULL DEFAULT 0,
    total        bigint NOT NULL DEFAULT 0,
    rate         double precision NOT NULL DEFAULT 0,    -- entries a second
    fault_count  bigint NOT NULL DEFAULT 0,
    faults       text NOT NULL DEFAULT '[]',             -- JSON: the first faults, a limited number
    result       text,                                   -- JSON
    error        text,
    owner        text NOT NULL,                          -- the process that runs it
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    mac          bytea NOT NULL                          -- see docs/format.md, "Rows that decide"
);
CREATE INDEX verifications_org ON verifications (org_id);
CREATE INDEX verifications_unfinished ON verifications (owner) WHERE state IN ('queued', 'running');

GRANT SELECT, INSERT, UPDATE ON verifications TO quire_server;
