-- The threat scores of orgs, keys and addresses, and which security events about callers were written.
-- Workers write all of it, and the server's login deletes what is old. Nothing here has a MAC: whoever
-- can write these rows can only raise a false alarm or hide one, and opens nothing
-- (docs/limits-and-threats.md). Addresses stand here as keyed digests, with the network that holds them.

-- The highest score in each hour, with its parts (JSON). One alert is told for a row.
CREATE TABLE threat_scores (
    org_id  bigint NOT NULL,
    kind    text NOT NULL CHECK (kind IN ('org', 'key', 'address')),
    name    text NOT NULL,
    hour    integer NOT NULL,
    network text NOT NULL DEFAULT '',
    score   smallint NOT NULL,
    parts   text NOT NULL,
    at      timestamptz NOT NULL,
    alerted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (org_id, kind, name, hour)
);

-- How often something was blocked in an org, by minute.
CREATE TABLE threat_blocked (
    org_id  bigint NOT NULL,
    minute  integer NOT NULL,
    blocked integer NOT NULL,
    PRIMARY KEY (org_id, minute)
);

-- Which events were written in a period of minutes, so that each is written once.
CREATE TABLE threat_told (
    org_id bigint NOT NULL,
    event  text NOT NULL,
    minute integer NOT NULL,              -- the first one of the period
    PRIMARY KEY (org_id, minute, event)
);
CREATE INDEX threat_told_minute ON threat_told (minute);

GRANT SELECT, INSERT, UPDATE, DELETE ON threat_scores, threat_blocked, threat_told TO quire_server;
