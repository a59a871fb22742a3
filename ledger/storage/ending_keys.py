"""API keys that end soon, or never, and the security events about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from ledger.storage.api_keys import ApiKeyRecord, ApiKeyTable
from ledger.storage.database import Connection
from ledger.storage.event_kinds import kind_of

AHEAD: Final = timedelta(days=30)
PAGE: Final = 500
# Released at the end of the transaction, or of its connection.
LEAD: Final = "SELECT pg_try_advisory_xact_lock(73058, 5)"
DUE: Final = """
FROM api_keys WHERE id > $1 AND revoked_at IS NULL AND rotated_to IS NULL
   AND (expires_at IS NULL OR (expires_at > $2 AND expires_at <= $3))
ORDER BY id LIMIT $4"""
# Each once, whoever stored it: while one process leads, no other stores any.
ADD: Final = """
INSERT INTO security_events (org_id, kind, detail, key_id, severity, layer)
SELECT n.org_id, n.kind, n.detail, n.key_id, n.severity, n.layer
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
     AS n (org_id, kind, detail, key_id, severity, layer)
WHERE NOT EXISTS (
    SELECT FROM security_events e
    WHERE e.org_id IS NOT DISTINCT FROM n.org_id AND e.kind = n.kind AND e.detail = n.detail)"""


class KeyNotice(NamedTuple):
    """A security event about a key of an org, or of the platform (None)."""

    org_id: int | None
    kind: str
    detail: str
    key_id: str


async def lead(connection: Connection) -> bool:
    """Return whether this transaction alone reports keys now. Raises asyncpg's errors."""
    return bool(await connection.fetchval(LEAD))


async def due(
    connection: Connection, table: ApiKeyTable, after: str, now: datetime
) -> list[ApiKeyRecord]:
    """Return a page of the keys that end within 30 days, or never, after the key with an id.

    Raises asyncpg's errors.
    """
    return await table.chosen(connection, DUE, after, now, now + AHEAD, PAGE)


async def store(connection: Connection, notices: Sequence[KeyNotice]) -> None:
    """Store events, but for those that are stored already. Raises asyncpg's errors."""
    if notices:
        org_ids, kinds, details, key_ids = zip(*notices, strict=True)
        severities, layers, _ = zip(*map(kind_of, kinds), strict=True)
        await connection.execute(ADD, org_ids, kinds, details, key_ids, severities, layers)
