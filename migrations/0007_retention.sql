-- Retention: archived months can be dropped from the database; and restoring from the archive.

-- For how many months entries stay after the end of their month. Only the owner may change it:
-- the login of retention can drop nothing unless the owner permits it. NULL: entries stay for ever.
CREATE TABLE retention (
    single      boolean PRIMARY KEY DEFAULT true CHECK (single),
    keep_months integer CHECK (keep_months >= 1)
);
INSERT INTO retention DEFAULT VALUES;
GRANT SELECT ON retention TO quire_server;

-- The dropped entries, by org and month. The org's trail in the table entries continues with the
-- entry after the last dropped one. Only the function below writes to this table.
CREATE TABLE departed (
    org_id      bigint NOT NULL,
    first_seq   bigint NOT NULL,
    last_seq    bigint NOT NULL,
    entries     bigint NOT NULL,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    last_hash   bytea NOT NULL,
    month       date NOT NULL,
    target      text NOT NULL,          -- URL of the target that has them
    record_seq  bigint NOT NULL,        -- the entry of the trail "system" that records the drop
    departed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    mac         bytea NOT NULL,         -- see docs/format.md, "Rows that decide"
    PRIMARY KEY (org_id, first_seq),
    CONSTRAINT departed_whole CHECK (first_seq >= 0 AND entries = last_seq - first_seq + 1)
);
CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON departed
    FOR EACH ROW EXECUTE FUNCTION quire_refuse_change();
CREATE TRIGGER worm_truncate BEFORE TRUNCATE ON departed
    FOR EACH STATEMENT EXECUTE FUNCTION quire_refuse_change();
GRANT SELECT ON departed TO quire_server, quire_signer;

-- Drops the partition of a month and records the dropped ranges of each org, all or nothing. Only
-- quire_retention may call it, which has compared every entry with the archive, read back, and names
-- in "held" what it read: of each org the entries, the hash of the last, and the MAC of the row of
-- departed. Rows that others can write are no evidence. Refuses unless the policy permits it, the month is sealed and the oldest in
-- the database, the entries of each org are those of "held", directly follow its dropped ones, are
-- archived in the target and followed by newer entries, and an entry of the trail "system", written
-- after that month, records the drop. Returns the number of dropped entries; NULL if there is no
-- such partition. Appends queue behind it while it waits for readers, so it has a short lock_timeout.
CREATE FUNCTION quire_drop_entries_partition(at timestamptz, archive text, entry bigint, held jsonb)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '2s' AS $$
DECLARE
    start  timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    next   timestamp := start + interval '1 month';
    part   text;
    keep   integer;
    told   jsonb;
    gone   bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(73058, 1);
    SELECT m.part INTO part FROM quire_entries_months() m WHERE m.month = start::date;
    IF part IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT keep_months INTO keep FROM retention;
    IF keep IS NULL OR next + make_interval(months => keep) > current_timestamp AT TIME ZONE 'UTC' THEN
        PERFORM quire_refuse_drop(part, 'the policy keeps it');
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass('public.' || part)
                   AND t.tgname = 'sealed' AND t.tgenabled <> 'D') THEN
        PERFORM quire_refuse_drop(part, 'it is not sealed');
    END IF;
    IF EXISTS (SELECT FROM quire_entries_months() m WHERE m.month < start::date) THEN
        PERFORM quire_refuse_drop(part, 'an older month is still there');
    END IF;
    EXECUTE format(
        'INSERT INTO departed (org_id, first_seq, last_seq, entries, first_at, last_at, last_hash,
                               month, target, record_seq, mac)
         SELECT r.org_id, r.first_seq, r.last_seq, r.entries, r.first_at, r.last_at, e.last_hash,
                $1, $2, $3, coalesce(decode(t.mac, ''hex''), '''')
         FROM (SELECT org_id, min(first_seq) AS first_seq, max(last_seq) AS last_seq,
                      sum(last_seq - first_seq + 1)::bigint AS entries,
                      min(anchored_at) AS first_at, max(anchored_at) AS last_at
               FROM public.%1$I GROUP BY org_id) AS r
         CROSS JOIN LATERAL (SELECT last_hash FROM public.%1$I AS e
                             WHERE e.org_id = r.org_id AND e.last_seq = r.last_seq LIMIT 1) AS e
         LEFT JOIN LATERAL (SELECT h.mac FROM jsonb_to_recordset($4) AS h (org_id bigint, mac text)
                            WHERE h.org_id = r.org_id LIMIT 1) AS t ON true', part)
        USING start::date, archive, entry, held;
    SELECT sum(entries) INTO gone FROM departed WHERE month = start::date AND record_seq = entry;
    IF gone IS NOT NULL THEN
        -- The entry is alone in a raw block: its leaf follows 32 bytes of signature.
        SELECT convert_from(e.payloads, 'UTF8')::jsonb INTO told
        FROM orgs o JOIN entries e ON e.org_id = o.id
        WHERE o.slug = 'system' AND o.privacy = 'plain' AND e.last_seq = entry AND e.first_seq = entry
          AND e.anchored_at >= next AT TIME ZONE 'UTC'
          AND octet_length(e.leaves)::bigint + octet_length(e.payloads) = e.raw_bytes
          AND position('"event_type":"quire.partition_dropped"'::bytea IN substring(e.leaves FROM 33)) > 0;
        IF told ->> 'month' IS DISTINCT FROM to_char(start, 'YYYY-MM')
           OR told ->> 'target' IS DISTINCT FROM archive THEN
            PERFORM quire_refuse_drop(part, 'no entry of the trail "system" records it');
        END IF;
        PERFORM quire_check_departed(part, start::date, next AT TIME ZONE 'UTC', entry);
        PERFORM quire_check_ranges(part, start::date, entry, held, 'what is in it of org %s was not read back from the archive');
        PERFORM quire_check_ranges(part, start::date, entry, told -> 'orgs', 'the record says something else of org %s');
    END IF;
    EXECUTE format('ALTER TABLE public.entries DETACH PARTITION public.%I', part);
    EXECUTE format('DROP TABLE public.%I', part);
    RETURN coalesce(gone, 0);
END $$;

-- Checks the conditions for each org of a month to drop. `next` is the end of the month.
CREATE FUNCTION quire_check_departed(part text, of_month date, next timestamptz, entry bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    org bigint;
BEGIN
    SELECT d.org_id INTO org FROM departed d
    WHERE d.month = of_month AND d.record_seq = entry AND d.first_seq <> 1 + coalesce(
        (SELECT max(b.last_seq) FROM departed b
         WHERE b.org_id = d.org_id AND b.first_seq < d.first_seq), -1) LIMIT 1;
    IF org IS NOT NULL THEN
        PERFORM quire_refuse_drop(part, format('entries of org %s before it are missing', org));
    END IF;
    SELECT d.org_id INTO org FROM departed d
    WHERE d.month = of_month AND d.record_seq = entry AND NOT EXISTS (
        SELECT FROM heads h WHERE h.org_id = d.org_id AND h.seq > d.last_seq
                              AND h.anchored_at >= next) LIMIT 1;
    IF org IS NOT NULL THEN
        PERFORM quire_refuse_drop(part, format('the head of org %s is in it', org));
    END IF;
    SELECT d.org_id INTO org FROM departed d
    WHERE d.month = of_month AND d.record_seq = entry AND NOT EXISTS (
        SELECT FROM archived a WHERE a.target = d.target AND a.org_id = d.org_id
                                 AND a.size > d.last_seq) LIMIT 1;
    IF org IS NOT NULL THEN
        PERFORM quire_refuse_drop(part, format('entries of org %s are not archived', org));
    END IF;
END $$;

-- Checks that the dropped entries of each org are those that "said" names, and their last hashes.
CREATE FUNCTION quire_check_ranges(part text, of_month date, entry bigint, said jsonb, reason text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    org bigint;
BEGIN
    SELECT d.org_id INTO org FROM departed d
    LEFT JOIN jsonb_to_recordset(said) AS t (org_id bigint, first_seq bigint, last_seq bigint, last_hash text)
        ON t.org_id = d.org_id AND t.first_seq = d.first_seq AND t.last_seq = d.last_seq
       AND t.last_hash = encode(d.last_hash, 'hex')
    WHERE d.month = of_month AND d.record_seq = entry AND t.org_id IS NULL LIMIT 1;
    IF org IS NOT NULL THEN
        PERFORM quire_refuse_drop(part, format(reason, org));
    END IF;
END $$;

CREATE FUNCTION quire_refuse_drop(part text, reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% stays: %', part, reason USING ERRCODE = 'QR001';
END $$;

REVOKE ALL ON FUNCTION quire_check_departed(text, date, timestamptz, bigint),
    quire_check_ranges(text, date, bigint, jsonb, text), quire_refuse_drop(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION quire_drop_entries_partition(timestamptz, text, bigint, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quire_drop_entries_partition(timestamptz, text, bigint, jsonb) TO quire_retention;

-- A restore knows all leaves of the anchor log, but the orgs of its own leaves only. The other
-- leaves have org -1. The owner may set their org once; the server's role may not update.
DROP TRIGGER worm ON anchor_leaves;
CREATE TRIGGER worm BEFORE DELETE ON anchor_leaves
    FOR EACH ROW EXECUTE FUNCTION quire_refuse_change();
CREATE TRIGGER worm_update BEFORE UPDATE ON anchor_leaves
    FOR EACH ROW WHEN (OLD.org_id <> -1 OR NEW.idx <> OLD.idx OR NEW.leaf <> OLD.leaf)
    EXECUTE FUNCTION quire_refuse_change();
