"""The stored public history of the log's signing keys, for verifiers.

Rows that do not continue the own history are left aside: whoever can write to the database can
write a row, but can't sign as a key of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ledger.errors import KeyHistoryError
from ledger.log_keys import KEYS_MAX, LogKeyHistory, settle
from ledger.storage.queries import Queries

MAX_STATEMENT_BYTES: Final = 16_384
READ: Final = f"""
SELECT position, CASE WHEN octet_length(statement) <= {MAX_STATEMENT_BYTES} THEN statement
                      ELSE '' END
FROM log_keys WHERE position BETWEEN 0 AND {KEYS_MAX - 1} ORDER BY position"""
ADD: Final = "INSERT INTO log_keys (position, statement) VALUES ($1, $2)"
NOTHING_SIGNED: Final = """
SELECT NOT EXISTS (SELECT FROM log_keys) AND NOT EXISTS (SELECT FROM checkpoints)"""

ANYTHING_SIGNED: Final = "SELECT EXISTS (SELECT FROM checkpoints)"


async def stored_rows(database: Queries) -> list[tuple[int, bytes]]:
    """Return the stored statements with their positions, in this order, valid or not."""
    return [(row[0], row[1]) for row in await database.fetch(READ)]


async def statements(database: Queries) -> list[bytes]:
    """Return the stored signed statements, oldest first, as far as they verify."""
    return settle((), await stored_rows(database)).statements


class PublishedKeys:
    """The public history, by the own key file and the database; :meth:`history` reads it.

    ``own`` returns the stored form of each statement of the key file, none on a machine that has
    no key file. ``report`` is called with what is wrong with rows that are left aside.
    """

    def __init__(
        self,
        database: Queries,
        own: Callable[[], Sequence[bytes]] = lambda: (),
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._own = own
        self._report = report
        self._known: tuple[tuple[bytes, ...], LogKeyHistory | None] = ((), None)

    async def history(self) -> LogKeyHistory | None:
        """Return the history; None before a key was published.

        Raises KeyHistoryError if the key file's own history is not valid, DatabaseUnavailable.
        """
        stored = await stored_rows(self._database)
        settled = settle(self._own() if stored else (), stored)
        if settled.aside or settled.missing:
            self._report(left_aside(settled.aside, settled.missing))
        read = tuple(settled.statements)
        if read != self._known[0]:  # only a rotation changes it
            self._known = read, LogKeyHistory.of(read) if read else None
        return self._known[1]


def left_aside(aside: Sequence[int], missing: Sequence[int]) -> str:
    """Return what is wrong with the rows at these positions."""
    named = [
        f"{name} {', '.join(map(str, some))}"
        for name, some in (
            ("changed or made in the database: position", aside),
            ("removed: position", missing),
        )
        if some
    ]
    return (
        f"rows of table log_keys were {'; '.join(named)}. They are left aside: the log's own "
        "history is answered. Run a full verification"
    )


async def nothing_signed(database: Queries) -> bool:
    """Return whether no key was published and nothing signed yet, so that a key may be made."""
    return bool((await database.fetch(NOTHING_SIGNED))[0][0])


async def anything_signed(database: Queries) -> bool:
    """Return whether there is a checkpoint, which the signer must remember."""
    return bool((await database.fetch(ANYTHING_SIGNED))[0][0])


async def publish_history(database: Queries, history: LogKeyHistory) -> str | None:
    """Store the statements of this history that the database does not have. The leader calls it.

    Returns what is wrong with rows that were left aside. Raises KeyHistoryError if the database
    holds another history: these are not its keys.
    """
    published = history.encoded_statements()
    stored = await stored_rows(database)
    settled = settle(published, stored)
    if settled.forks or len(settled.statements) > len(published):
        raise KeyHistoryError(
            "the database holds the history of other or newer log keys than the key file: "
            "checkpoints are not signed. Restore the log key file that belongs to this database "
            "from your backup"
        )
    taken = {position for position, _ in stored}
    for position, statement in enumerate(published):
        if position not in taken:
            await database.execute(ADD, position, statement)
    if settled.aside or settled.missing:
        return left_aside(settled.aside, settled.missing)
    return None
