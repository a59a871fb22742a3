"""The one writer of entries: an append and a restore both write by it, in their transactions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import asyncpg

from ledger.chain import StoredEntry
from ledger.storage.database import Connection
from ledger.storage.entries.columns import BLOCK_COLUMNS
from ledger.storage.entries.writing.copy_in import copy_stream

_COLUMNS: Final = BLOCK_COLUMNS.split(", ")


async def add(
    connection: Connection, entries: Iterable[StoredEntry], *, timeout: float | None = None
) -> dict[int, bytes | None]:
    """Write entries of any orgs by binary COPY; their months must exist. Raises asyncpg's errors.

    ``timeout`` in seconds; None: that of the connection. Returns the mark of the last block of
    each org, by its id; None if its last payload is large, of which a tail has only a part.
    """
    marks: dict[int, bytes | None] = {}
    if connection.is_closed():
        raise asyncpg.InterfaceError("the connection is closed")  # asyncpg does not check
    await connection.copy_to_table(
        "entries",
        source=copy_stream(entries, marks),
        columns=_COLUMNS,
        format="binary",
        timeout=timeout,
    )
    return marks
