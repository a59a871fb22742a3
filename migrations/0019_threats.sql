-- How callers behave: counts of requests by minute, and the threat scores of orgs, keys and addresses.
-- Workers write all of it, and the server's login deletes what is old. Nothing here has a MAC: whoever
-- can write these rows can only raise a false alarm or hide one, and opens nothing
-- (docs/limits-and-threats.md). Addresses stand here as keyed digests, with the network that holds them.

-- Whose requests are counted. The org 0 is the whole installation.
CREATE TABLE threat_subjects (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id       bigint NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('org', 'key', 'address')),
    name         text NOT NULL,           -- empty, the key's id, or the address's digest
    network      text NOT NULL DEFAULT '',
    admitted     boolean NOT NULL DEFAULT false, -- whether a request of it was ever let in
    first_minute integer NOT NULL,        -- minutes since the Unix epoch
    last_minute  integer NOT NULL,
    UNIQUE (org_id, kind, name)
);

-- The counts of the last two hours, to which every process adds its own.
CREATE TABLE threat_minutes (
    minute     integer NOT NULL,
    subject_id bigint NOT NULL,
    requests   integer NOT NULL,
    refusals   integer NOT NULL,
    failures   integer NOT NULL,
    PRIMARY KEY (minute, subject_id)
);
CREATE INDEX threat_minutes_subject ON threat_minutes (subject_id, minute);

-- The counts of earlier hours of a week, without the minutes in which nothing happened.
CREATE TABLE threat_hours (
    subject_id bigint NOT NULL,
    hour       integer NOT NULL,
    minutes    smallint[] NOT NULL,
    requests   integer[] NOT NULL,
    refusals   integer[] NOT NULL,
    failures   integer[] NOT NULL,
    PRIMARY KEY (subject_id, hour)
);
CREATE INDEX threat_hours_hour ON threat_hours (hour);

-- The counts of whole days (UTC), for five weeks.
CREATE TABLE threat_days (
    subject_id bigint NOT NULL,
    day        integer NOT NULL,
    requests   bigint NOT NULL,
    refusals   bigint NOT NULL,
    failures   bigint NOT NULL,
    PRIMARY KEY (subject_id, day)
);

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

-- Which events were written in a period (of a minute, an hour or a day), so that each is written once.
CREATE TABLE threat_told (
    org_id bigint NOT NULL,
    event  text NOT NULL,
    minute integer NOT NULL,              -- the first one of the period
    PRIMARY KEY (org_id, minute, event)
);
CREATE INDEX threat_told_minute ON threat_told (minute);

GRANT SELECT, INSERT, UPDATE, DELETE ON threat_subjects, threat_minutes, threat_hours, threat_days,
    threat_scores, threat_blocked, threat_told TO quire_server;
