"""The one writer of entries: an append and a restore both write by it, in their transactions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

import asyncpg

from ledger.blocks.block import Block, cut
from ledger.chain import StoredEntry
from ledger.storage.database import Connection
from ledger.storage.entries.columns import BLOCK_COLUMNS
from ledger.storage.entries.writing.copy_in import SMALL_ENTRIES, copy_stream, packed

_COLUMNS: Final = BLOCK_COLUMNS.split(", ")
FEW_BLOCKS: Final = 3
"""So few blocks, of at most SMALL_ENTRIES, cost less by INSERT, whose plan is kept, than by COPY."""
_PLACES: Final = ", ".join(f"${place}" for place in range(1, len(_COLUMNS) + 1))
INSERT: Final = f"INSERT INTO entries ({BLOCK_COLUMNS}) VALUES ({_PLACES})"


async def add(
    connection: Connection, entries: Iterable[StoredEntry], *, timeout: float | None = None
) -> dict[int, bytes | None]:
    """Write entries of any orgs; their months must exist. Raises asyncpg's errors.

    ``timeout`` in seconds; None: that of the connection. Returns the mark of the last block of
    each org, by its id; None if its last payload is large, of which a tail has only a part.
    """
    marks: dict[int, bytes | None] = {}
    if connection.is_closed():
        raise asyncpg.InterfaceError("the connection is closed")  # asyncpg does not check
    parts = iter(cut(entries))
    first, are_all = _small(parts)
    if are_all:
        await _insert(connection, first, marks, timeout)
        return marks
    await connection.copy_to_table(
        "entries",
        source=copy_stream(chain(first, parts), marks),
        columns=_COLUMNS,
        format="binary",
        timeout=timeout,
    )
    return marks


def _small(parts: Iterator[Sequence[StoredEntry]]) -> tuple[list[Sequence[StoredEntry]], bool]:
    """Return the first parts, and whether they are all of them, few and small."""
    first: list[Sequence[StoredEntry]] = []
    for part in parts:
        first.append(part)
        if len(part) > SMALL_ENTRIES or len(first) > FEW_BLOCKS:
            return first, False
    return first, True


async def _insert(
    connection: Connection,
    parts: Iterable[Sequence[StoredEntry]],
    marks: dict[int, bytes | None],
    timeout: float | None,
) -> None:
    blocks: list[Block] = []
    for part in parts:
        block, marks[part[0].org_id] = await packed(part)
        blocks.append(block)
    if len(blocks) == 1:
        await connection.execute(INSERT, *blocks[0], timeout=timeout)
    elif blocks:
        await connection.executemany(INSERT, blocks, timeout=timeout)
