"""Timestamp tokens and cosignatures of anchors; each new one is added to the older ones."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from ledger.storage import security_events
from ledger.storage.database import Database
from ledger.storage.trees import ANCHOR_LOG, StoredCheckpoint

ADD_STAMP: Final = "INSERT INTO anchor_tokens (size, gen_time, token) VALUES ($1, $2, $3)"
ADD_COSIGNATURE: Final = """
INSERT INTO anchor_cosignatures (size, witness, line) VALUES ($1, $2, $3)"""
NEWEST_STAMPED: Final = "SELECT size FROM anchor_tokens ORDER BY size DESC LIMIT 1"
WITNESSES_OF: Final = "SELECT DISTINCT witness FROM anchor_cosignatures WHERE size = $1"
# Old tokens are renewed before their authority's certificate expires. For each day the last
# timestamped anchor is renewed; it commits to the earlier ones.
OLD_STAMPS: Final = f"""
SELECT c.size, c.root, c.note, c.signed_at
FROM (SELECT DISTINCT ON (day) size, newest
      FROM (SELECT size, max(added_at) AS newest, date_trunc('day', min(gen_time), 'UTC') AS day
            FROM anchor_tokens GROUP BY size) AS stamped
      ORDER BY day, size DESC) AS t
JOIN checkpoints c ON c.org_id = {ANCHOR_LOG} AND c.size = t.size
WHERE t.newest < now() - $1::interval ORDER BY t.newest LIMIT $2"""


async def add_token(database: Database, size: int, gen_time: datetime, token: bytes) -> None:
    """Store a verified RFC 3161 token over the note of the anchor of this size."""
    await database.execute(ADD_STAMP, size, gen_time, token)


async def add_cosignature(database: Database, size: int, witness: str, line: bytes) -> None:
    """Store a verified signature line; ``witness`` is its key's name and id."""
    await database.execute(ADD_COSIGNATURE, size, witness, line)


async def add_alarm(database: Database, kind: str, detail: str) -> None:
    """Store a security event that concerns all orgs."""
    await security_events.add(database, None, kind, detail)


async def newest_stamped(database: Database) -> int:
    """Return the size of the newest anchor with a token; 0 if there is none."""
    row = await database.fetchrow(NEWEST_STAMPED)
    return row[0] if row else 0


async def witnesses_of(database: Database, size: int) -> set[str]:
    """Return the witnesses (key name and id) whose cosignatures of this anchor are stored."""
    return {row[0] for row in await database.fetch(WITNESSES_OF, size)}


async def old_tokens(database: Database, days: int, limit: int) -> list[StoredCheckpoint]:
    """Return the anchors whose newest token is older than ``days``, oldest first."""
    rows = await database.fetch(OLD_STAMPS, timedelta(days=days), limit)
    return [StoredCheckpoint(*row) for row in rows]
