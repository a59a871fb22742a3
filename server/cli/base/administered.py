"""Commands on the server's own machine that change rows by which the server decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from ledger.sealing import address_key
from ledger.storage.database import Database
from ledger.storage.orgs import any_org
from server.access.administering import administering
from server.access.administration import Administration
from server.access.auth import Authenticator
from server.access.keys.api_keys import ApiKeys
from server.keys.first_start import load_master_key, load_secrets
from server.keys.head_memory import open_heads
from server.keys.keyring import LiveKeyring
from server.process.database.own_database import own_database
from server.settings import Settings

R = TypeVar("R")


class AdministrativeWork(NamedTuple):
    """The database and its administration, open while a command works.

    ``address_key`` is that of the digests of addresses.
    """

    database: Database
    administration: Administration
    authenticator: Authenticator
    address_key: bytes

    @property
    def keys(self) -> ApiKeys:
        """The API keys."""
        return self.authenticator.keys


def administered(settings: Settings, work: Callable[[AdministrativeWork], Awaitable[R]]) -> R:
    """Run work on the database of the settings, with the keys of this machine.

    Raises SecretsError, ForeignKeys, HeadMemoryUnavailable, StorageError.
    """
    load_master_key(settings)  # a missing file is reported before any database is started
    secrets = load_secrets(settings, database_is_new=False)

    async def run(url: str) -> R:
        database = await Database.open(url, size=1)
        try:
            keyring, has_orgs = LiveKeyring.of(settings, secrets.keyring), await any_org(database)
            heads = open_heads(settings, secrets.master_key, has_orgs=has_orgs)
            with contextlib.closing(heads):
                async with administering(
                    database, keyring, secrets.master_key, heads
                ) as administration:
                    validity = administration.validity
                    authenticator = Authenticator(database, secrets.master_key, validity)
                    key = address_key(secrets.master_key)
                    return await work(
                        AdministrativeWork(database, administration, authenticator, key)
                    )
        finally:
            await database.close()

    with own_database(settings) as urls:
        return asyncio.run(run(urls.server))
