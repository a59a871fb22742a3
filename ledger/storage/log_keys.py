"""The public history of the log's signing keys, for whoever verifies what they signed."""

from __future__ import annotations

from typing import Final

from ledger.errors import KeyHistoryError
from ledger.log_keys import LogKeyHistory
from ledger.storage.queries import Queries

READ: Final = "SELECT statement FROM log_keys ORDER BY position"
ADD: Final = "INSERT INTO log_keys (position, statement) VALUES ($1, $2)"
NOTHING_SIGNED: Final = """
SELECT NOT EXISTS (SELECT FROM log_keys) AND NOT EXISTS (SELECT FROM checkpoints)"""

ANYTHING_SIGNED: Final = "SELECT EXISTS (SELECT FROM checkpoints)"


async def statements(database: Queries) -> list[bytes]:
    """The signed statements as they are stored, oldest first."""
    return [row[0] for row in await database.fetch(READ)]


async def nothing_signed(database: Queries) -> bool:
    """Whether no key was ever published here and nothing signed: a key may be made."""
    return bool((await database.fetch(NOTHING_SIGNED))[0][0])


async def anything_signed(database: Queries) -> bool:
    """Whether there is a checkpoint, which its signer must remember."""
    return bool((await database.fetch(ANYTHING_SIGNED))[0][0])


async def publish_history(database: Queries, history: LogKeyHistory) -> None:
    """Store what the database does not have yet of this history. The leader calls it.

    Raises KeyHistoryError where it holds another one: these are not its keys.
    """
    wanted = history.encoded_statements()
    stored = await statements(database)
    if stored != wanted[: len(stored)]:
        raise KeyHistoryError(
            "the database holds the history of other or newer log keys than the key file: "
            "checkpoints are not signed. Restore the log key file that belongs to this database "
            "from your backup"
        )
    for position, statement in enumerate(wanted[len(stored) :], len(stored)):
        await database.execute(ADD, position, statement)
