"""Orgs with an API key each, created up to ten thousand at a time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from bench.load import Target
from bench.stage import KEYRING, MASTER_KEY, Scratch
from ledger.core.register import API_KEYS, ORGS, Change, ChangeKind
from ledger.core.register.changes import SERVER, row
from ledger.core.sealing.sealer import new_org_key
from ledger.sealing import row_key
from ledger.storage.api_keys import ApiKeyRow
from ledger.storage.database import Database
from ledger.storage.orgs import OrgRow
from ledger.storage.trail import AppendTransaction
from server.access.administering import administering
from server.access.administration import Administration
from server.access.auth import Authenticator

AT_ONCE: Final = 1_000


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
        async with administering(database, lambda _: KEYRING, MASTER_KEY, None) as administration:
            authenticator = Authenticator(database, MASTER_KEY, administration.validity)
            first = secrets.randbelow(2**30) + 1
            made: list[Tenant] = []
            for lowest in range(first, first + count, AT_ONCE):
                some = range(lowest, min(lowest + AT_ONCE, first + count))
                made += await _create_some(administration, authenticator, some, privacy)
            return made
    finally:
        await database.close()


async def _create_some(
    administration: Administration, authenticator: Authenticator, ids: Iterable[int], privacy: str
) -> list[Tenant]:
    """Create these orgs in one transaction with one entry, as no route does."""
    now, rows = datetime.now(UTC), row_key(MASTER_KEY)
    orgs: list[OrgRow] = []
    keys: list[ApiKeyRow] = []
    tokens: list[str] = []
    for org_id in ids:
        slug, new = f"bench-{org_id}", authenticator.new_key()
        orgs.append(OrgRow(org_id, slug, slug, privacy, new_org_key(MASTER_KEY, slug)))
        keys.append(ApiKeyRow(new.key_id, org_id, "bench", "member", new.secret_hash, now, SERVER))
        tokens.append(new.token)

    async def effect(transaction: AppendTransaction) -> None:
        copy = transaction.connection.copy_records_to_table
        org_rows = [(*org, now, org.mac(rows)) for org in orgs]
        await copy("orgs", records=org_rows, columns=[*OrgRow._fields, "created_at", "mac"])
        await copy("heads", records=[(org.id,) for org in orgs], columns=["org_id"])
        key_rows = [(*key, key.mac(rows)) for key in keys]
        await copy("api_keys", records=key_rows, columns=[*ApiKeyRow._fields, "mac"])

    change = Change(
        [row(ORGS, org.slug, org.mac(rows)) for org in orgs]
        + [row(API_KEYS, key.id, key.mac(rows)) for key in keys]
    )
    await administration.record(ChangeKind.ORG_CREATED, change, {"orgs": len(orgs)}, effect)
    return [Tenant(org.id, org.slug, token) for org, token in zip(orgs, tokens, strict=True)]
