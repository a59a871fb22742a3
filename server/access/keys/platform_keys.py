"""Checks the file that holds the platform's API key.

The database holds only a keyed hash of that key, so a lost file can't be restored from it:
`quire keys platform rotate` makes a new key.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Final

import structlog

from server.access.auth import Authenticator
from server.keys.key_files import SecretsError, read_private_file

log = structlog.get_logger("quire")

PLATFORM_KEY: Final = "platform.key"
ROTATE: Final = "quire keys platform rotate"


class KeyFile(Enum):
    """The state of the file; the value describes it in the log and the banner."""

    VALID = ""
    MISSING = "is not on this machine"
    UNREADABLE = "can't be read"
    FOREIGN = "does not hold a valid key of this database"
    UNCHECKED = "can't be checked while this machine lacks a signing key"


async def state_of(path: Path, authenticator: Authenticator) -> KeyFile:
    """Return the state of the file; log a problem with the command that replaces the key."""
    try:
        state = await _state(path, authenticator)
        reason = f"{path} {state.value}"
    except SecretsError as error:
        state, reason = KeyFile.UNREADABLE, str(error)
    if state is not KeyFile.VALID:
        # It is expected to be missing on all machines but the first.
        report = log.info if state is KeyFile.MISSING else log.warning
        report(
            "the platform key of this machine can't be used; everything else works",
            reason=reason,
            new_key=ROTATE,
        )
    return state


async def _state(path: Path, authenticator: Authenticator) -> KeyFile:
    content = read_private_file(path)
    if content is None:
        return KeyFile.MISSING
    key = authenticator.read_key(content.decode("ascii", "replace").strip())
    record = None if key is None else await authenticator.keys.find(key.key_id)
    if (
        key is None
        or record is None
        or not authenticator.is_valid(record)
        or record.org_id is not None
    ):
        return KeyFile.FOREIGN
    return KeyFile.VALID if record.row.secret_hash == key.secret_hash else KeyFile.FOREIGN
