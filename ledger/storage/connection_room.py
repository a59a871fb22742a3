"""The limits that a database sets on the connections of the server's role."""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.storage.database import Database

# -1 means no limit. Reserved connections are for superusers, and, since version 16, for the
# members of a role.
LIMITS: Final = """
SELECT 'CONNECTION LIMIT of the role ' || r.rolname, r.rolconnlimit
FROM pg_roles r WHERE r.rolname = session_user AND r.rolconnlimit >= 0 AND NOT r.rolsuper
UNION ALL
SELECT 'CONNECTION LIMIT of the database ' || d.datname, d.datconnlimit
FROM pg_database d WHERE d.datname = current_database() AND d.datconnlimit >= 0
UNION ALL
SELECT 'max_connections of PostgreSQL, without reserved connections',
       current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true), '0')::int"""


class ConnectionLimit(NamedTuple):
    """A limit of connections: the name of the setting, and the number it allows."""

    name: str
    connections: int


async def tightest_limit(database: Database) -> ConnectionLimit:
    """Return the lowest limit on the connections of this role."""
    limits = [ConnectionLimit(*row) for row in await database.fetch(LIMITS)]
    return min(limits, key=lambda limit: limit.connections)
