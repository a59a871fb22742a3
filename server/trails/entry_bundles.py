"""Entry bundles of logs, read and packed a few at once.

Most have some kilobytes, but 256 leaves may be 16 MiB, and a public log is asked for
bundles by anybody, as often as they like: what they take of memory and of a core has a bound.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ledger.core.shares import OrgShares
from ledger.errors import QueueFull
from ledger.tiles import TILE_WIDTH, EntryTile, pack_entries

AT_ONCE: Final = 4
"""Bundles in memory at once; below what a process has of database connections."""
MAX_ASKED: Final = 256
"""Requests for bundles that are read or wait for that, half of them at most for one log."""
SMALL_BYTES: Final = 1 << 18
"""Up to this size packing takes about as long as handing it to a thread is worth."""
GZIP_LEVEL: Final = 1

Leaves = Callable[[int, int, int], Awaitable[list[bytes] | None]]
"""Reads leaves of a log: org, first, count; None where its signed tree has no such."""


class EntryBundles:
    """Reads bundles of all logs of one server process."""

    def __init__(self, leaves: Leaves) -> None:
        self._leaves = leaves
        self._room = asyncio.Semaphore(AT_ONCE)
        self.places = OrgShares(total=MAX_ASKED, of_org=MAX_ASKED // 2, full=_full)

    async def read(self, org_id: int, wanted: EntryTile, *, gzipped: bool) -> bytes | None:
        """The bytes of a bundle, None where the log has no such.

        Raises QueueFull, and what reading the leaves raises.
        """
        with self.places.holding(org_id):
            async with self._room:
                leaves = await self._leaves(org_id, wanted.index * TILE_WIDTH, wanted.width)
                if leaves is None:
                    return None
                if sum(map(len, leaves)) <= SMALL_BYTES:
                    return _packed(leaves, gzipped=gzipped)
                return await asyncio.to_thread(_packed, leaves, gzipped=gzipped)


def _full(everyone: bool) -> QueueFull:
    return QueueFull(
        "as many entry bundles as this server takes are being read; ask again in a moment",
        everyone=everyone,
    )


def _packed(leaves: Sequence[bytes], *, gzipped: bool) -> bytes:
    data = pack_entries(leaves)
    # Without a time of its own in it, the same bundle is the same bytes.
    return gzip.compress(data, GZIP_LEVEL, mtime=0) if gzipped else data
