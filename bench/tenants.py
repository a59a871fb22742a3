"""Orgs with an API key each, created up to ten thousand at a time."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import NamedTuple

from bench.load import Target
from bench.stage import MASTER_KEY, Scratch
from ledger.core.sealing.sealer import new_org_key
from ledger.sealing import row_key
from ledger.storage.api_keys import API_KEYS
from ledger.storage.database import Database
from server.access.auth import Authenticator, NewKey


class Tenant(NamedTuple):
    """An org and its key."""

    org_id: int
    slug: str
    token: str

    @property
    def entries(self) -> Target:
        """The target of appends to the org."""
        return Target(f"/v1/orgs/{self.slug}/entries", self.token)


def create(scratch: Scratch, count: int = 1, *, seals: bool = False) -> list[Tenant]:
    """Create orgs with empty trails, each with a key that may append."""
    return asyncio.run(_create(scratch, count, "sealed" if seals else "plain"))


async def _create(scratch: Scratch, count: int, privacy: str) -> list[Tenant]:
    database = await Database.open(scratch.server_url, size=1)
    try:
        authenticator = Authenticator(database, MASTER_KEY)
        now, rows = datetime.now(UTC), row_key(MASTER_KEY)
        first = secrets.randbelow(2**30) + 1
        made: list[tuple[Tenant, NewKey]] = []
        for org_id in range(first, first + count):
            key = authenticator.new_key()
            made.append((Tenant(org_id, f"bench-{org_id}", key.token), key))
        async with database.transaction() as connection:
            await connection.copy_records_to_table(
                "orgs",
                records=[
                    (
                        org.org_id,
                        org.slug,
                        org.slug,
                        privacy,
                        new_org_key(MASTER_KEY, org.slug),
                        now,
                    )
                    for org, _ in made
                ],
                columns=["id", "slug", "name", "privacy", "wrapped_key", "created_at"],
            )
            await connection.copy_records_to_table(
                "heads", records=[(org.org_id,) for org, _ in made], columns=["org_id"]
            )
            await connection.copy_records_to_table(
                "api_keys",
                records=[
                    (
                        key.key_id,
                        org.org_id,
                        "bench",
                        "member",
                        key.secret_hash,
                        now,
                        API_KEYS.mac(rows, key.key_id, org.org_id, "member", key.secret_hash, None),
                    )
                    for org, key in made
                ],
                columns=["id", "org_id", "name", "role", "secret_hash", "created_at", "mac"],
            )
        return [org for org, _ in made]
    finally:
        await database.close()
