-- The number of entries, from the first on, whose sealing keys were lost when the org was restored
-- from its archive. The archive holds no keys, so that a person can be erased.
ALTER TABLE orgs ADD COLUMN keys_lost_below bigint NOT NULL DEFAULT 0 CHECK (keys_lost_below >= 0);
