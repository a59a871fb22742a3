"""How many connections a database allows its server's role, before it runs out of them."""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.storage.database import Database

# -1: no limit. Reserved connections are for superusers, and for members of a role (since 16).
LIMITS: Final = """
SELECT 'CONNECTION LIMIT of the role ' || r.rolname, r.rolconnlimit
FROM pg_roles r WHERE r.rolname = session_user AND r.rolconnlimit >= 0 AND NOT r.rolsuper
UNION ALL
SELECT 'CONNECTION LIMIT of the database ' || d.datname, d.datconnlimit
FROM pg_database d WHERE d.datname = current_database() AND d.datconnlimit >= 0
UNION ALL
SELECT 'max_connections of PostgreSQL, without those it reserves',
       current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true), '0')::int"""


class ConnectionLimit(NamedTuple):
    """A limit of connections: what sets it, and how many it allows."""

    name: str
    connections: int


async def tightest_limit(database: Database) -> ConnectionLimit:
    """What limits the connections of this role the most."""
    limits = [ConnectionLimit(*row) for row in await database.fetch(LIMITS)]
    return min(limits, key=lambda limit: limit.connections)
