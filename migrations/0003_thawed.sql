-- When an operator last decided what the head of a trail is. A server process that
-- remembers a head from before lets go of it then, whichever process did the thawing.

ALTER TABLE heads ADD COLUMN thawed_us bigint NOT NULL DEFAULT 0;    -- µs since the epoch
