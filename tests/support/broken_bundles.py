"""Damage to stored entries that a bundle needs."""

from __future__ import annotations

from tests.support.appending import superuser
from tests.support.clusters import Database, blocking

BROKEN = 1_700
"""The seq of an entry outside the first batch: the answer has begun when it is read."""


def tamper(database: Database, statement: str, org: str, seq: int) -> None:
    """Change stored rows, as only an attacker who disables the triggers can."""

    async def run() -> None:
        async with superuser(database) as connection:
            org_id = await connection.fetchval("SELECT id FROM orgs WHERE slug = $1", org)
            assert await connection.execute(statement, org_id, seq) != "UPDATE 0"

    blocking(run())


OF_ENTRY = "UPDATE entries SET {} WHERE org_id = $1 AND seq = $2"
DAMAGE = {
    "payload": OF_ENTRY.format("payload = '\\x01' || substr(payload, 2) || 'x'"),
    "leaf": OF_ENTRY.format(
        "leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'case', 'cafe'), 'UTF8')"
    ),
    "no leaf": OF_ENTRY.format("leaf = 'x'"),
    "removed": "DELETE FROM entries WHERE org_id = $1 AND seq = $2",
    "tile": "UPDATE tile_parts SET hashes = sha256('x') || substr(hashes, 33) "
    "WHERE org_id = $1 AND level = 0 AND tile = $2 / 256",
}
