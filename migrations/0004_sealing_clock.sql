-- A server whose clock is ahead must not seal the month to which all others write:
-- a month counts as over only if the database's own clock says so too.

CREATE OR REPLACE FUNCTION quire_seal_partitions(now timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    today  timestamp := least(now, current_timestamp) AT TIME ZONE 'UTC';
    over   record;
    sealed integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(73058, 1);
    FOR over IN
        SELECT m.part FROM quire_entries_months() m
        WHERE m.month + interval '1 month 1 day' < today
          AND NOT EXISTS (SELECT FROM pg_trigger t
                          WHERE t.tgrelid = to_regclass('public.' || quote_ident(m.part)) AND t.tgname = 'sealed')
    LOOP
        EXECUTE format('CREATE TRIGGER sealed BEFORE INSERT ON public.%I FOR EACH ROW EXECUTE FUNCTION public.quire_refuse_insert()', over.part);
        sealed := sealed + 1;
    END LOOP;
    RETURN sealed;
END $$;
