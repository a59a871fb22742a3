"""Places of all entries of a range, from short columns of their blocks alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from itertools import repeat
from typing import Final, NamedTuple

from ledger.blocks.layout import BlockDamaged
from ledger.blocks.reading import UnreadableEntries
from ledger.blocks.selecting import positions_of
from ledger.storage.database import Connection
from ledger.storage.entries.searching.block_rows import BlockRange, TagRow
from ledger.storage.entries.searching.walking import parts_of, tag_rows

_PART_SEQS: Final = 1 << 15


class Located(NamedTuple):
    """Seq and time of entries, the last seq searched, and what ended the search, or None."""

    places: list[tuple[int, datetime]]
    searched: int
    unreadable: UnreadableEntries | None


async def located(connection: Connection, span: BlockRange, limit: int) -> Located:
    """Return the places of the first entries of an ascending range. Raises asyncpg's errors."""
    places: list[tuple[int, datetime]] = []
    searched = span.first - 1
    fetch = partial(tag_rows, connection)
    async for part in parts_of(connection, span, repeat(_PART_SEQS), fetch):
        for row in part.rows:
            assert isinstance(row, TagRow), "fetch returns no others"
            try:
                places += _places(row, part.range)
            except BlockDamaged as error:
                damaged = UnreadableEntries(row.first_seq, row.last_seq, str(error))
                return Located(places, max(row.first_seq, span.first) - 1, damaged)
        if len(places) >= limit:
            return Located(places[:limit], places[limit - 1][0], None)
        searched = part.covered
    return Located(places, searched, None)


def _places(row: TagRow, part: BlockRange) -> Iterator[tuple[int, datetime]]:
    """Return the places of the entries of a block that are in a part. Raises BlockDamaged."""
    positions = positions_of(row.first_seq, row.last_seq, row.tags, part.first, part.last)
    return ((row.first_seq + position, row.anchored_at) for position in positions)
