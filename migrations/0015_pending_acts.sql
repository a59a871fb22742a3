-- What callers read, who was refused, and when servers started and stopped, until entries of the trails
-- tell it. Each server process adds rows every few seconds; one transaction writes the entries and
-- removes the rows that they tell. Rows of a frozen org wait here. A row whose MAC is not right tells nothing.
CREATE TABLE pending_acts (
    id     bytea PRIMARY KEY,
    org_id bigint NOT NULL,
    kind   text NOT NULL,
    at     timestamptz NOT NULL,
    body   bytea NOT NULL,
    mac    bytea NOT NULL
);
CREATE INDEX pending_acts_org ON pending_acts (org_id, kind, at);
GRANT SELECT, INSERT, DELETE ON pending_acts TO quire_server;
