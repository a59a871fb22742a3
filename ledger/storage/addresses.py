"""The addresses behind digests: personal data, apart from all other rows, deleted after some days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from ledger.storage.database import Database

# In one order of locks: several processes note the same addresses at once.
NOTE: Final = """
INSERT INTO addresses AS a (digest, address, last_seen)
SELECT n.digest, n.address, $3::timestamptz
FROM unnest($1::bytea[], $2::text[]) AS n (digest, address) ORDER BY n.digest
ON CONFLICT (digest) DO UPDATE SET last_seen = greatest(a.last_seen, excluded.last_seen),
    address = excluded.address"""
FIND: Final = "SELECT digest, left(address, 100) FROM addresses WHERE digest = ANY($1::bytea[])"
EXPIRE: Final = "DELETE FROM addresses WHERE last_seen < $1"


async def note(database: Database, addresses: Mapping[str, str], at: datetime) -> None:
    """Store addresses by their digests (hexadecimal), seen at a time. Raises DatabaseUnavailable."""
    digests = [bytes.fromhex(digest) for digest in addresses]
    await database.execute(NOTE, digests, list(addresses.values()), at)


async def found(database: Database, digests: Sequence[str]) -> dict[str, str]:
    """Return the stored texts by digest. Raises DatabaseUnavailable."""
    rows = await database.fetch(FIND, [bytes.fromhex(digest) for digest in digests])
    return {row[0].hex(): row[1] for row in rows}


async def expire(database: Database, before: datetime) -> None:
    """Delete the addresses that were last seen before a time. Raises DatabaseUnavailable."""
    await database.execute(EXPIRE, before)
