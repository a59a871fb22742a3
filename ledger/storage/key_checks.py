"""The stored check values by which a database recognises its keys.

The server computes the values; this module only stores and reads them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ledger.storage import log_keys
from ledger.storage.database import Database, connect_as_owner, explained
from ledger.storage.lock_waits import log_lock_waits
from ledger.storage.queries import Queries

_LOCK: Final = 7_305_804_410
_TABLES: Final = """
SELECT to_regclass('key_checks') IS NOT NULL, to_regclass('orgs') IS NOT NULL,
       to_regclass('log_keys') IS NOT NULL"""
_READ: Final = "SELECT kind, key_id, value FROM key_checks ORDER BY added_at, key_id"
_ADD: Final = "INSERT INTO key_checks (kind, key_id, value) VALUES ($1, $2, $3)"
_ORG: Final = "SELECT slug, wrapped_key FROM orgs ORDER BY id LIMIT 1"

MASTER: Final = "master"
SIGNING: Final = "signing"


class KeyCheck(NamedTuple):
    """One row: the kind of key, its id (empty for the master key), and a value of 32 bytes."""

    kind: str
    key_id: str
    value: bytes


class KnownKeys(NamedTuple):
    """The information that a database has about its keys; empty in a new database.

    ``org`` is the slug and the wrapped key of any org; ``log`` holds the signed statements of
    the log keys, oldest first.
    """

    checks: list[KeyCheck]
    org: tuple[str, bytes] | None
    log: list[bytes]


async def known_keys(database: Queries) -> KnownKeys:
    """Read what the database knows of its keys, for any version of the schema."""
    checks, orgs, logs = (await database.fetch(_TABLES))[0]
    rows = await database.fetch(_READ) if checks else []
    any_org = await database.fetch(_ORG) if orgs else []
    return KnownKeys(
        [KeyCheck(*row) for row in rows],
        tuple(any_org[0]) if any_org else None,
        await log_keys.statements(database) if logs else [],
    )


async def known_keys_at(url: str) -> KnownKeys:
    """Read the same on a new connection. Raises DatabaseUnavailable."""
    name = f"quire keys {os.getpid()}"
    connection = await connect_as_owner(url, name=name)
    try:
        async with explained(), log_lock_waits(url, name):
            return await known_keys(connection)
    finally:
        connection.terminate()


async def add_checks(
    database: Database, checks: Iterable[KeyCheck], refuse: Callable[[KnownKeys], None]
) -> list[KeyCheck]:
    """Store the rows that the database does not have, in one transaction; return them.

    ``refuse`` is called first with the database's own information, and raises if the keys are
    not its keys. If two servers start first with different keys, the second is refused.
    """
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        known = await known_keys(connection)
        refuse(known)
        stored = {(check.kind, check.key_id) for check in known.checks}
        new = [check for check in checks if (check.kind, check.key_id) not in stored]
        for check in new:
            await connection.execute(_ADD, *check)
    return new
