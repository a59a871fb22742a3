"""The stored public history of the log's signing keys, for verifiers."""

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
    """Return the stored signed statements, oldest first."""
    return [row[0] for row in await database.fetch(READ)]


async def nothing_signed(database: Queries) -> bool:
    """Return whether no key was published and nothing signed yet, so that a key may be made."""
    return bool((await database.fetch(NOTHING_SIGNED))[0][0])


async def anything_signed(database: Queries) -> bool:
    """Return whether there is a checkpoint, which the signer must remember."""
    return bool((await database.fetch(ANYTHING_SIGNED))[0][0])


async def publish_history(database: Queries, history: LogKeyHistory) -> None:
    """Store the statements of this history that the database does not have. The leader calls it.

    Raises KeyHistoryError if the database holds another history: these are not its keys.
    """
    published = history.encoded_statements()
    stored = await statements(database)
    if stored != published[: len(stored)]:
        raise KeyHistoryError(
            "the database holds the history of other or newer log keys than the key file: "
            "checkpoints are not signed. Restore the log key file that belongs to this database "
            "from your backup"
        )
    for position, statement in enumerate(published[len(stored) :], len(stored)):
        await database.execute(ADD, position, statement)
