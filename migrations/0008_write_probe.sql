-- A test write with the needs of an append (a database that accepts writes, a free page on the
-- disk, a commit that is durable everywhere), so that a server can report that appends would fail.
--
-- And slugs in byte order, whatever the collation of the database: lists of orgs use this order.

ALTER TABLE orgs ALTER COLUMN slug TYPE text COLLATE "C";

CREATE TABLE write_probe (filler text NOT NULL);
ALTER TABLE write_probe ALTER COLUMN filler SET STORAGE PLAIN;    -- a page on disk, no TOAST

CREATE FUNCTION quire_probe_write() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '200ms' AS $$
BEGIN
    -- Without TRUNCATE the INSERT could use a page freed before, although the disk is full.
    TRUNCATE public.write_probe;
    INSERT INTO public.write_probe VALUES (repeat('x', 8000));
EXCEPTION WHEN lock_not_available THEN
    -- Another server is probing, or a backup reads the table: the commit serves as the probe.
    PERFORM pg_logical_emit_message(true, 'quire', 'probe');
END $$;

REVOKE ALL ON FUNCTION quire_probe_write() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quire_probe_write() TO quire_server;
