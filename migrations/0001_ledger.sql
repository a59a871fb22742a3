-- The ledger: orgs, their trails, and the keys around them.
--
-- The roles (docs/database.md, "Roles"): the owner runs migrations and owns all objects. The server
-- connects as quire_server, which may only INSERT and SELECT on the trail. quire_signer signs,
-- quire_retention seals and drops; neither is a role that quire_server can become.

DO $$
DECLARE
    missing text;
BEGIN
    FOREACH missing IN ARRAY ARRAY['quire_server', 'quire_signer', 'quire_retention'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = missing) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', missing);
        END IF;
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'the role % does not exist and this login may not create it', missing
        USING HINT = format('As a superuser: CREATE ROLE %I LOGIN PASSWORD ''…''; GRANT CONNECT ON DATABASE %I TO %I',
                            missing, current_database(), missing);
END $$;

-- Locks that one role alone can take: of empty tables, which it locks in an open transaction. An
-- advisory lock is open to every role. See ledger/storage/role_lock.py.
CREATE SCHEMA quire_signing;
CREATE TABLE quire_signing.leader ();
CREATE TABLE quire_signing.turn ();
CREATE SCHEMA quire_retaining;
CREATE TABLE quire_retaining.leader ();
GRANT USAGE ON SCHEMA quire_signing TO quire_signer;
GRANT USAGE ON SCHEMA quire_retaining TO quire_retention;
GRANT UPDATE ON quire_signing.leader, quire_signing.turn TO quire_signer;     -- the right that LOCK TABLE needs
GRANT UPDATE ON quire_retaining.leader TO quire_retention;

-- ---------------------------------------------------------------- tenants

CREATE TABLE orgs (
    id          bigint PRIMARY KEY,
    slug        text NOT NULL UNIQUE,
    name        text NOT NULL,
    privacy     text NOT NULL CHECK (privacy IN ('sealed', 'plain')),
    wrapped_key bytea NOT NULL,
    -- How much the org may append in a day (UTC): entries, and bytes of bodies; 0: any number.
    entries_a_day bigint NOT NULL DEFAULT 0 CHECK (entries_a_day >= 0),
    bytes_a_day   bigint NOT NULL DEFAULT 0 CHECK (bytes_a_day >= 0),
    -- After how many days each of the org's API keys should be rotated; 0: their age does not matter.
    max_key_age_days bigint NOT NULL DEFAULT 0 CHECK (max_key_age_days BETWEEN 0 AND 365),
    created_at  timestamptz NOT NULL DEFAULT now(),
    mac         bytea NOT NULL      -- see docs/format.md, "Rows that decide"
);

-- How much of its quota each org with one has used in its newest day. The server writes it, a part at a
-- time in advance.
CREATE TABLE quota_uses (
    org_id  bigint PRIMARY KEY REFERENCES orgs (id),
    day     date NOT NULL,
    entries bigint NOT NULL,
    bytes   bigint NOT NULL,
    warned  smallint NOT NULL,          -- percent of the quota at which an event was stored in this day
    mac     bytea NOT NULL
);

-- org_id NULL means a platform key, which administers all orgs.
CREATE TABLE api_keys (
    id            text PRIMARY KEY,
    org_id        bigint REFERENCES orgs (id),
    name          text NOT NULL,
    role          text NOT NULL CHECK (role IN ('platform', 'admin', 'member', 'auditor', 'viewer')),
    secret_hash   bytea NOT NULL,
    created_at    timestamptz NOT NULL,
    created_by    text NOT NULL,        -- "key:" and the id of an API key, or "server"
    expires_at    timestamptz,          -- NULL: never
    allowed_cidrs text NOT NULL,        -- ranges with commas between them; empty: any address
    rotated_to    text,                 -- the id of the key that replaced this one
    revoked_at    timestamptz,
    mac           bytea NOT NULL,       -- see docs/format.md, "Rows that decide"
    last_used_at  timestamptz,          -- written once a minute, without a MAC: it decides nothing
    CHECK ((role = 'platform') = (org_id IS NULL)),
    CHECK (role <> 'auditor' OR expires_at IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX api_keys_org ON api_keys (org_id, created_at, id);
-- Those that are counted against the limit of an org, and that may be about to expire.
CREATE INDEX api_keys_live ON api_keys (org_id, expires_at) WHERE revoked_at IS NULL;

-- The only link between a ref in the trail and a person. Erasing a person deletes the row.
CREATE TABLE subjects (
    org_id      bigint NOT NULL,
    lookup      bytea NOT NULL,     -- HMAC of the name under a key of the org
    ref         text NOT NULL,
    wrapped_key bytea NOT NULL,     -- the subject key under the org key
    name        bytea NOT NULL,     -- the name under the subject key
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, lookup)
);
CREATE UNIQUE INDEX subjects_ref ON subjects (org_id, ref);

-- ---------------------------------------------------------------- the trail

-- One row per org, locked by every append; seq -1 is an empty trail.
-- A low fill factor keeps its updates HOT.
CREATE TABLE heads (
    org_id        bigint PRIMARY KEY,
    seq           bigint NOT NULL DEFAULT -1,
    entry_hash    bytea NOT NULL DEFAULT '',
    anchored_at   timestamptz NOT NULL DEFAULT 'epoch',
    -- Number of erasures. An append sealed before the newest erasure is sealed again.
    erasures      bigint NOT NULL DEFAULT 0,
    -- Number of revocations of the org's API keys. An append admitted before the newest one looks
    -- its key up again.
    revocations   bigint NOT NULL DEFAULT 0,
    frozen_at     timestamptz,
    frozen_reason text
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.05);

-- Blocks: the entries that one transaction writes for one org (docs/format.md, "Blocks").
CREATE TABLE entries (
    org_id      bigint NOT NULL,
    last_seq    bigint NOT NULL,
    anchored_at timestamptz NOT NULL,
    first_seq   bigint NOT NULL,
    last_hash   bytea NOT NULL,
    raw_bytes   bigint NOT NULL,
    tags        bytea NOT NULL,
    ends        bytea NOT NULL,
    leaves      bytea NOT NULL,
    payloads    bytea NOT NULL,
    PRIMARY KEY (org_id, last_seq, anchored_at),
    CONSTRAINT entries_borders CHECK (first_seq >> 8 = last_seq >> 8 AND first_seq <= last_seq)
) PARTITION BY RANGE (anchored_at);

-- Compressed already, or known to be short.
ALTER TABLE entries ALTER COLUMN tags SET STORAGE PLAIN, ALTER COLUMN ends SET STORAGE PLAIN,
    ALTER COLUMN leaves SET STORAGE EXTERNAL, ALTER COLUMN payloads SET STORAGE EXTERNAL;

CREATE FUNCTION quire_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the trail is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION quire_refuse_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'partition % is sealed: its month is over', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Check the clock of the machine that appends.';
END $$;

-- Row triggers of the parent are cloned to every partition, statement triggers are not.
CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION quire_refuse_change();
CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION quire_refuse_change();

-- The partitions of the entries with the first days of their months. Months are compared as dates:
-- as text, entries_10000_01 is before entries_2026_06.
CREATE FUNCTION quire_entries_months() RETURNS TABLE (part text, month date)
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.relname::text, to_date(substr(c.relname, 9), 'YYYY_MM')
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'public.entries'::regclass AND c.relname ~ '^entries_\d{4,}_\d{2}$'
$$;

-- Creates the partition of the month of the given time; returns true if it was missing. Only the
-- owner may call it, as a restore does: it takes any month of the years 1 to 9999.
-- Attaching, unlike CREATE … PARTITION OF, does not wait for readers of the parent,
-- so a long verification can't delay appends.
CREATE FUNCTION quire_add_entries_month(at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    first timestamptz := date_trunc('month', at, 'UTC');
    next  timestamptz := (date_trunc('month', at AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    part  text := 'entries_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF (first >= '0001-01-01Z' AND first < '10000-01-01Z') IS NOT TRUE THEN  -- a year BC has the name of one AD
        RAISE EXCEPTION 'no partition is created for %: its year is not one of 1 to 9999', at
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(73058, 1);
    IF to_regclass('public.' || part) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.entries INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part);
    EXECUTE format('CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION public.quire_refuse_change()', part);
    EXECUTE format('ALTER TABLE public.entries ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', part, first, next);
    RETURN true;
END $$;

-- Refuses a time that is not within 60 months before and 24 months after the present: the server's
-- role may create partitions, but not so many that planning a query takes long.
CREATE FUNCTION quire_check_near(at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (at >= current_timestamp - interval '60 months' AND at <= current_timestamp + interval '24 months') IS NOT TRUE THEN
        RAISE EXCEPTION 'no partition is created for %: it is over 60 months ago, or over 24 months ahead', at
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Check the clock of the machine that appends, and that of the database.';
    END IF;
END $$;

CREATE FUNCTION quire_create_entries_partition(at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM quire_check_near(at);
    RETURN quire_add_entries_month(at);
END $$;

-- Seals the partitions whose month ended more than a day ago, so that they refuse INSERTs;
-- returns the number of partitions that this call sealed.
CREATE FUNCTION quire_seal_partitions(now timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    over   record;
    sealed integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(73058, 1);
    FOR over IN
        SELECT m.part FROM quire_entries_months() m
        WHERE m.month + interval '1 month 1 day' < now AT TIME ZONE 'UTC'
          AND NOT EXISTS (SELECT FROM pg_trigger t
                          WHERE t.tgrelid = to_regclass('public.' || quote_ident(m.part)) AND t.tgname = 'sealed')
    LOOP
        EXECUTE format('CREATE TRIGGER sealed BEFORE INSERT ON public.%I FOR EACH ROW EXECUTE FUNCTION public.quire_refuse_insert()', over.part);
        sealed := sealed + 1;
    END LOOP;
    RETURN sealed;
END $$;

-- ---------------------------------------------------------------- idempotency

-- The lock on the org's head row makes (org_id, key) unique across days.
-- seqs is set only if the entries of one request do not have consecutive seqs. No entry of it is
-- newer than anchored_at; without seqs, all have that time.
CREATE TABLE idempotency (
    day         date NOT NULL,
    org_id      bigint NOT NULL,
    key         bytea NOT NULL,
    body        bytea NOT NULL,
    first_seq   bigint NOT NULL,
    count       integer NOT NULL,
    seqs        bigint[],
    anchored_at timestamptz NOT NULL,
    first_hash  bytea NOT NULL,     -- of the entry at first_seq
    mac         bytea NOT NULL,     -- see docs/format.md, "Rows that decide"
    PRIMARY KEY (org_id, key, day)
) PARTITION BY RANGE (day);

CREATE FUNCTION quire_create_idempotency_partition(for_day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    part text := 'idempotency_' || to_char(for_day, 'YYYY_MM_DD');
BEGIN
    PERFORM quire_check_near(for_day::timestamp AT TIME ZONE 'UTC');
    PERFORM pg_advisory_xact_lock(73058, 2);
    IF to_regclass('public.' || part) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.idempotency INCLUDING DEFAULTS)', part);
    EXECUTE format('ALTER TABLE public.idempotency ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', part, for_day, for_day + 1);
    RETURN true;
END $$;

-- Drops the partitions of the days before the given day; returns their number.
CREATE FUNCTION quire_drop_idempotency_before(oldest date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    part record;
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(73058, 2);
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.idempotency'::regclass
          AND c.relname ~ '^idempotency_\d{4,}_\d{2}_\d{2}$'
          AND to_date(substr(c.relname, 13), 'YYYY_MM_DD') < least(oldest, current_date - 1)
    LOOP
        EXECUTE format('DROP TABLE public.%I', part.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- ---------------------------------------------------------------- security events

CREATE TABLE security_events (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    org_id   bigint,
    kind     text NOT NULL,
    detail   text NOT NULL,
    severity text NOT NULL DEFAULT 'medium',  -- low, medium, high, critical
    layer    text NOT NULL DEFAULT 'other',   -- the part of the server that noticed it
    score    smallint,                        -- 0 to 100, where a layer weighs what it finds
    key_id   text,                            -- the API key that it is about
    details  text NOT NULL DEFAULT '{}'       -- a JSON object
);
CREATE INDEX security_events_org ON security_events (org_id, id);

-- Which events an operator dealt with. A row stands in the transaction of its entry in the trail.
CREATE TABLE acknowledged_events (
    event_id        bigint PRIMARY KEY,
    org_id          bigint NOT NULL,
    acknowledged_at timestamptz NOT NULL,
    key_id          text NOT NULL,
    reason          text NOT NULL,
    mac             bytea NOT NULL
);
CREATE INDEX acknowledged_events_org ON acknowledged_events (org_id);
CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON acknowledged_events
    FOR EACH ROW EXECUTE FUNCTION quire_refuse_change();
CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON acknowledged_events
    FOR EACH STATEMENT EXECUTE FUNCTION quire_refuse_change();

-- ---------------------------------------------------------------- rights

REVOKE ALL ON FUNCTION quire_entries_months(), quire_add_entries_month(timestamptz), quire_check_near(timestamptz),
    quire_create_entries_partition(timestamptz), quire_seal_partitions(timestamptz),
    quire_create_idempotency_partition(date), quire_drop_idempotency_before(date) FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO quire_server, quire_signer, quire_retention;
GRANT EXECUTE ON FUNCTION quire_create_entries_partition(timestamptz), quire_create_idempotency_partition(date) TO quire_server;
-- What seals or destroys belongs to a login that the server does not have.
GRANT EXECUTE ON FUNCTION quire_seal_partitions(timestamptz), quire_drop_idempotency_before(date) TO quire_retention;
GRANT SELECT, INSERT ON entries, idempotency TO quire_server;
GRANT SELECT, INSERT, UPDATE ON api_keys TO quire_server;
-- On the tables that the signer reads, UPDATE is granted by column: whoever may UPDATE a table may lock
-- all of it (LOCK TABLE), and so hold off every reader. No row can be given another org.
GRANT SELECT, INSERT ON orgs, heads TO quire_server;
GRANT UPDATE (name, entries_a_day, bytes_a_day, max_key_age_days, mac) ON orgs TO quire_server;
GRANT SELECT, INSERT, UPDATE ON quota_uses TO quire_server;
GRANT UPDATE (seq, entry_hash, anchored_at, erasures, revocations, frozen_at, frozen_reason) ON heads TO quire_server;
GRANT SELECT, INSERT, DELETE ON subjects TO quire_server;
-- Without id and at: an id that was used in advance would make the insert of an alarm fail.
GRANT SELECT, INSERT (org_id, kind, detail, severity, layer, score, key_id, details) ON security_events TO quire_server, quire_signer;
GRANT SELECT, INSERT ON acknowledged_events TO quire_server;
-- The signer reads what it signs. An org that it doubts it freezes.
GRANT SELECT ON orgs, heads, entries TO quire_signer;
GRANT INSERT (org_id, erasures, revocations, frozen_at, frozen_reason), UPDATE (frozen_at, frozen_reason) ON heads TO quire_signer;
