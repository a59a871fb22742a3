"""Reads and packs entry bundles of logs, a few at once.

Most have some kilobytes, but 256 leaves may be 16 MiB, and anybody may request bundles of a
public log as often as they like, so the memory and CPU time that they use are bounded.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ledger.core.shares import OrgShares
from ledger.errors import QueueFull
from ledger.storage.asking import current_turn
from ledger.tiles import TILE_WIDTH, EntryTile, pack_entries
from ledger.turns import Share, Turn, Turns

AT_ONCE: Final = 4
"""Bundles in memory at once; fewer than the database connections of a process. Callers take turns."""
MAX_REQUESTS: Final = 256
"""Requests for bundles that are read or wait to be read, half of them at most for one caller."""
WAIT_S: Final = 10.0
_READ: Final = "read"
SMALL_BYTES: Final = 1 << 18
"""Packing up to this size is not worth a thread."""
GZIP_LEVEL: Final = 1

Leaves = Callable[[int, int, int], Awaitable[list[bytes] | None]]
"""Reads leaves of a log: org, first, count; None if its signed tree does not have them."""


class EntryBundles:
    """Reads bundles of all logs of one server process."""

    def __init__(self, leaves: Leaves) -> None:
        self._leaves = leaves
        share = Share(AT_ONCE, AT_ONCE // 2)
        self._turns = Turns(AT_ONCE, {_READ: share}, full=lambda _: _full(False))
        self.places = OrgShares(total=MAX_REQUESTS, of_org=MAX_REQUESTS // 2, full=_full)

    async def read(self, org_id: int, tile: EntryTile, *, gzipped: bool) -> bytes | None:
        """Return the bytes of a bundle, None if the log does not have it.

        The caller is an org, or the address of somebody without a key: those who read a public log
        do not hold up its org. Raises QueueFull, and the errors of reading the leaves.
        """
        caller = current_turn().owner
        with self.places.holding(caller), _in_time():
            async with self._turns.place(Turn(caller, _READ), WAIT_S):
                leaves = await self._leaves(org_id, tile.index * TILE_WIDTH, tile.width)
                if leaves is None:
                    return None
                if sum(map(len, leaves)) <= SMALL_BYTES:
                    return _packed(leaves, gzipped=gzipped)
                return await asyncio.to_thread(_packed, leaves, gzipped=gzipped)


@contextmanager
def _in_time() -> Iterator[None]:
    """Refuse a request whose turn does not come in time."""
    try:
        yield
    except TimeoutError:
        raise _full(False) from None


def _full(everyone: bool) -> QueueFull:
    return QueueFull("too many entry bundles are being read; retry shortly", everyone=everyone)


def _packed(leaves: Sequence[bytes], *, gzipped: bool) -> bytes:
    data = pack_entries(leaves)
    # Without a time in the gzip header, the same bundle has the same bytes.
    return gzip.compress(data, GZIP_LEVEL, mtime=0) if gzipped else data
