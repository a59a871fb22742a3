-- Blocks of addresses: one row an address, its newest block. The address is a keyed digest, of an IPv6
-- address that of its /64. Entries of the trail "system" decide what is blocked; a server process
-- writes the row in the transaction of the entry, and removes it 60 days later at the earliest.
CREATE TABLE address_blocks (
    digest     bytea PRIMARY KEY,
    id         text NOT NULL,
    network    text NOT NULL,           -- the /24 of the address, of IPv6 the /48
    reason     text NOT NULL,
    blocked_by text NOT NULL,
    blocked_at timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    level      bigint NOT NULL,         -- how many blocks in a row the server made by itself
    lifted_at  timestamptz,
    lifted_by  text,
    mac        bytea NOT NULL           -- see docs/format.md, "Rows that decide"
);
GRANT SELECT, INSERT, UPDATE, DELETE ON address_blocks TO quire_server;

-- The addresses themselves: personal data, in this table alone. A server process notes those that
-- events score or that are blocked, and deletes them after QUIRE_ADDRESS_DAYS. They decide nothing:
-- one whose digest is not that of its row is not used.
CREATE TABLE addresses (
    digest    bytea PRIMARY KEY,
    address   text NOT NULL,
    last_seen timestamptz NOT NULL
);
CREATE INDEX addresses_last_seen ON addresses (last_seen);
GRANT SELECT, INSERT, UPDATE, DELETE ON addresses TO quire_server;

-- The automatic block looks for the newest events with a high score, every few seconds.
CREATE INDEX security_events_scored ON security_events (at) WHERE score >= 75;
