-- The time at which an operator last set the head of a trail by thawing it. Every server
-- process that has an older head in memory then discards it.

ALTER TABLE heads ADD COLUMN thawed_us bigint NOT NULL DEFAULT 0;    -- µs since the epoch
GRANT UPDATE (thawed_us) ON heads TO quire_server;
