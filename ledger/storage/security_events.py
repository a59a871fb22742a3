"""Security events, which an operator must examine, stored in the database that they concern."""

from __future__ import annotations

from typing import Final

from ledger.storage.database import Connection, Database
from ledger.storage.queries import Queries

MAX_REASON_CHARS: Final = 1_000
_INTO: Final = "INSERT INTO security_events (org_id, kind, detail)"
ADD: Final = f"{_INTO} VALUES ($1, $2, $3)"
# There are few events: without an index on them, a scan is fast enough.
ADD_ONCE: Final = f"""
{_INTO} SELECT $1::bigint, $2::text, $3::text WHERE NOT EXISTS (
    SELECT FROM security_events
    WHERE org_id IS NOT DISTINCT FROM $1 AND kind = $2 AND detail = $3)"""

ADD_HOURLY: Final = f"""
{_INTO} SELECT $1::bigint, $2::text, $4::text WHERE NOT EXISTS (
    SELECT FROM security_events
    WHERE org_id IS NOT DISTINCT FROM $1 AND kind = $2 AND starts_with(detail, $3)
      AND at > now() - interval '1 hour')"""


async def add(to: Connection | Database, org_id: int | None, kind: str, detail: str) -> None:
    """Store an event of an org, or of all orgs (None); see :func:`storable` for ``detail``."""
    await to.execute(ADD, org_id, kind, detail)


async def add_once(database: Queries, org_id: int | None, kind: str, detail: str) -> None:
    """Store an event of an org, or of all (None), unless the same one is stored."""
    await database.execute(ADD_ONCE, org_id, kind, storable(detail))


async def add_hourly(
    database: Queries, org_id: int | None, kind: str, about: str, detail: str
) -> None:
    """Store an event unless one of its kind that begins with ``about`` was stored within the hour."""
    await database.execute(ADD_HOURLY, org_id, kind, about, storable(detail))


def storable(text: str) -> str:
    """Return a reason that PostgreSQL can store, at most 1,000 characters.

    A reason may quote any text, but PostgreSQL's text can't hold NUL, and UTF-8 no
    half of a surrogate pair; both are replaced.
    """
    text = text.replace("\x00", "\ufffd")[:MAX_REASON_CHARS]
    return text.encode("utf-8", "replace").decode()
