"""The first start: creates a platform key, and with the embedded database a demo org.

Every step can be repeated: a key file is written before its key is stored, so after a crash
between the two the next start stores the key.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import structlog

from ledger.core.register import RegisterBehind
from ledger.core.sequencer import AcknowledgedHeads
from ledger.storage import orgs
from ledger.storage.database import Database
from server.access.administering import administering
from server.access.administration import Administration, Conflict
from server.access.auth import Authenticator, NewKey
from server.access.keys.changes import AskedKey, KeyChanges
from server.access.keys.platform_keys import PLATFORM_KEY, KeyFile, state_of
from server.keys.first_start import ServerSecrets, create_private_file, read_private_file
from server.keys.keyring import LiveKeyring
from server.refusal import StartupRefused
from server.settings import Settings

log = structlog.get_logger("quire")

DEMO_KEY: Final = "demo-admin.key"
DEMO_ORG: Final = "demo"
FIRST: Final = "first start"
"""The name of keys that the first start makes; they never expire."""


__all__ = ["DEMO_KEY", "DEMO_ORG", "PLATFORM_KEY", "begin"]


async def begin(
    settings: Settings, secrets: ServerSecrets, database: Database, heads: AcknowledgedHeads
) -> KeyFile:
    """Make sure that the register and a platform key exist, and in a new embedded one the demo org.

    Returns the state of this machine's platform key file. A machine that lacks a signing key makes
    nothing, and starts: it refuses what it can't check until it has the key.
    """
    try:
        return await _begin(settings, secrets, database, heads)
    except RegisterBehind as error:
        log.warning("this server refuses requests until it has a signing key", reason=str(error))
        return KeyFile.UNCHECKED


async def _begin(
    settings: Settings, secrets: ServerSecrets, database: Database, heads: AcknowledgedHeads
) -> KeyFile:
    keyring = LiveKeyring.of(settings, secrets.keyring)
    async with administering(database, keyring, secrets.master_key, heads) as administration:
        authenticator = Authenticator(database, secrets.master_key, administration.validity)
        platform_keys = await authenticator.keys.of_org(None)
        if not any(map(authenticator.is_valid, platform_keys)):
            new = await _file_key(settings.data_dir / PLATFORM_KEY, authenticator)
            if new is not None:
                key = AskedKey(new.key_id, None, FIRST, "platform", new.secret_hash, None)
                await KeyChanges(administration).add(key, None)
        if settings.embedded:
            await _demo(settings, database, authenticator, administration)
        return await state_of(settings.data_dir / PLATFORM_KEY, authenticator)


async def _demo(
    settings: Settings,
    database: Database,
    authenticator: Authenticator,
    administration: Administration,
) -> None:
    if not await orgs.any_org(database):
        try:
            await administration.create_org(DEMO_ORG, "Demo", "sealed")
        except Conflict:
            return
    demo = await orgs.org_by_slug(database, DEMO_ORG)
    if demo is None or await authenticator.keys.page(demo.id, "", 1):
        return
    new = await _file_key(settings.data_dir / DEMO_KEY, authenticator)
    if new is None:
        return
    key = AskedKey(new.key_id, demo.id, FIRST, "admin", new.secret_hash, None)
    await KeyChanges(administration).add(key, DEMO_ORG)


async def _file_key(path: Path, authenticator: Authenticator) -> NewKey | None:
    """Return the key in this file; make it and write the file if it does not exist.

    None for a key that was used before: its row was revoked, changed or removed. That stops no
    server, whose other keys are right; the state of the file says what to do.
    """
    written = read_private_file(path)
    if written is None:
        new = authenticator.new_key()
        path.parent.mkdir(parents=True, exist_ok=True)
        create_private_file(path, new.token.encode() + b"\n")
        return new
    key = authenticator.read_key(written.decode("ascii", "replace").strip())
    if key is None:
        away = shlex.quote(f"{path}.old")
        raise StartupRefused(
            f"{path} does not hold an API key. Move it away and start again, which makes a new key: "
            f"mv {shlex.quote(str(path))} {away}"
        )
    found = await authenticator.keys.find(key.key_id)
    used = found is not None or authenticator.keys.was_removed(key.key_id)
    return None if used else key
