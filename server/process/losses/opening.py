"""Opens what the acceptance of a loss needs, in a command on the server's machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ledger.core.checkpointing import MEMORY_FILE, SignerMemory
from ledger.core.sealing.sealer import Sealer
from ledger.storage import migrate, orgs
from ledger.storage.database import Database
from ledger.storage.signing import SignerConnection
from server.access.administering import administering
from server.access.directory import Directory
from server.keys.first_start import load_secrets, read_log_keys
from server.keys.head_memory import open_heads
from server.keys.keyring import LiveKeyring
from server.keys.own_keys import require_own_keys_in
from server.process.database.own_database import DatabaseUrls
from server.process.database.required_logins import signer_login
from server.process.losses.accepting import Loss, Losses, SignedSide
from server.refusal import StartupRefused
from server.settings import Settings
from server.trails.clock import ServerClock


async def accepted(settings: Settings, urls: DatabaseUrls, slug: str, reason: str) -> Loss:
    """Accept the loss of an org's entries. Raises StartupRefused, QuireError."""
    async with _losses(settings, urls) as (database, directory, losses):
        record = await orgs.org_by_slug(database, slug)
        facts = None if record is None else await directory.by_id(record.id)
        if facts is None:
            raise StartupRefused(f'There is no org "{slug}".')
        return await losses.accept(facts, reason)


@asynccontextmanager
async def _losses(
    settings: Settings, urls: DatabaseUrls
) -> AsyncIterator[tuple[Database, Directory, Losses]]:
    secrets, login = load_secrets(settings, database_is_new=False), signer_login(settings, urls)
    log_keys = read_log_keys(settings)
    if log_keys is None:
        raise StartupRefused(f"The log keys are missing: {settings.log_keys_path} does not exist.")
    if login is None:
        raise StartupRefused(
            "Checkpoints are signed by another server: run the command on its machine."
        )
    async with contextlib.AsyncExitStack() as stack:
        database = await Database.open(urls.server, size=4)
        stack.push_async_callback(database.close)
        await migrate.require_current(database)
        await require_own_keys_in(database, settings, secrets)
        heads = stack.enter_context(
            contextlib.closing(open_heads(settings, secrets.master_key, has_orgs=True))
        )
        memory = stack.enter_context(
            contextlib.closing(SignerMemory(settings.data_dir / MEMORY_FILE))
        )
        memory.belong(log_keys.public().keys[0].digest)
        signer = await stack.enter_async_context(SignerConnection.open(login))
        keyring, clock = LiveKeyring.of(settings, secrets.keyring), ServerClock(settings)
        opening = administering(
            database, keyring, secrets.master_key, heads, compares=False, clock=clock.wall
        )
        administration = await stack.enter_async_context(opening)
        sequencer, register = administration.sequencer, administration.register
        sealer = Sealer(database, secrets.master_key, register)
        signed = SignedSide(signer, log_keys.public(), memory)
        losses = Losses(database, sequencer, sealer, administration, keyring(True), heads, signed)
        yield database, Directory(database, register), losses
