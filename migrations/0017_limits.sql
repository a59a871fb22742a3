-- Rate limits. "org_limits" has the limits of orgs that have their own, in requests a minute, 0 for none:
-- an admin of the org or the platform sets them, and the server writes them with their entry in the trail
-- "system". A row whose MAC is not right limits nothing, and what it would limit is refused.
CREATE TABLE org_limits (
    org_id     bigint PRIMARY KEY,
    key_append bigint NOT NULL,
    key_read   bigint NOT NULL,
    key_verify bigint NOT NULL,
    org_append bigint NOT NULL,
    org_read   bigint NOT NULL,
    org_verify bigint NOT NULL,
    mac        bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE ON org_limits TO quire_server;

-- What has been used of fast limits, told once a second by each server process. A place is a keyed digest
-- of what is limited: no address stands here. tat_us is the theoretical arrival time (GCRA), in
-- microseconds since the Unix epoch by the clock of the database; spent_us what the last process added to
-- it. A crash of the database empties the table, which costs a second of the limits.
CREATE UNLOGGED TABLE rate_clocks (
    place    bytea PRIMARY KEY,
    tat_us   bigint NOT NULL,
    spent_us bigint NOT NULL
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE, DELETE ON rate_clocks TO quire_server;

-- The same for exact limits, which one statement charges before the work: cost_us is what it charges,
-- most_us the whole budget.
CREATE TABLE rate_budgets (
    place   bytea PRIMARY KEY,
    tat_us  bigint NOT NULL,
    cost_us bigint NOT NULL,
    most_us bigint NOT NULL
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE, DELETE ON rate_budgets TO quire_server;
