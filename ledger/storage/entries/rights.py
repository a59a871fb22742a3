"""Statements that ask about the table of entries itself: its rights and locks, and its kind."""

from __future__ import annotations

from typing import Final

PROBE: Final = """
UPDATE heads SET seq = seq WHERE false;
INSERT INTO entries (org_id) SELECT 0 WHERE false;
INSERT INTO idempotency (org_id) SELECT 0 WHERE false;
SELECT quire_probe_write()"""
"""Needs the same rights, locks and resources as an append.

The first statements write no row; the migration that creates the function describes the last.
"""
# The tables of Quire: those that the owner of the trail has beside it, with its partitions. What was used
# of rate limits in the last second may be lost.
UNLOGGED: Final = """
SELECT c.relname FROM pg_class c JOIN pg_class t ON t.oid = to_regclass('entries')
WHERE c.relnamespace = t.relnamespace AND c.relowner = t.relowner
  AND c.relkind = 'r' AND c.relpersistence = 'u' AND c.relname <> 'rate_clocks'
  ORDER BY 1 LIMIT 20"""
