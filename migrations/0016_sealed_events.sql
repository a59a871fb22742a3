-- Which security events stand in an entry `quire.security_events` of a trail. A row is added in the
-- transaction of its entry, and only says what need not be written again: a verification compares
-- the events with the entries, and never asks this table. A row that is removed has its event sealed
-- once more; so does an accepted loss with the rows of its org, as entries that sealed may be lost.
CREATE TABLE sealed_events (
    event_id bigint PRIMARY KEY,
    org_id   bigint NOT NULL
);
CREATE INDEX sealed_events_org ON sealed_events (org_id);
GRANT SELECT, INSERT, DELETE ON sealed_events TO quire_server;
