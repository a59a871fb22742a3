"""Reads a trail's archived entries, and then its others as the COPY of their blocks.

They are only fetched here, and checked by the same code as entries of the database. Entries that
can't be fetched are missing, and reported as a fault of the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.targets import open_target
from ledger.chain import StoredEntry, TrailFault
from ledger.core.reading.past import archived_size
from ledger.core.verification.work.crew import ArchiveAt
from ledger.errors import ArchiveMismatch, ArchiveObjectMissing
from ledger.storage.copy_format import COPY_SIGNATURE, COPY_TRAILER
from ledger.storage.copy_out import SegmentReader
from ledger.storage.entries.copying import Sink
from ledger.tiles import by_tile

NOTHING_COPIED: Final = COPY_SIGNATURE + bytes(8) + COPY_TRAILER


class ArchiveAndDatabase:
    """Reads segments of one org's trail from the archive and then the database."""

    def __init__(self, rows: SegmentReader, at: ArchiveAt, org_id: int, org: str) -> None:
        self._rows = rows
        self._at = at
        self._org_id = org_id
        self._org = org
        self._stack = AsyncExitStack()
        self._reader: ArchiveReader | None = None
        self._size = 0

    async def close(self) -> None:
        """Close the archive's target."""
        await self._stack.aclose()

    async def copy(
        self, lower: int, upper: int, add: Callable[[Sequence[StoredEntry]], None], sink: Sink
    ) -> list[TrailFault]:
        """Read the entries ``lower`` to ``upper``: the archive's into ``add``, then the others.

        The blocks with the others are streamed into the sink. Returns the archive's faults.
        Raises ArchiveError if the archive can't be read.
        """
        faults = []
        last = min(upper, self._at.live_from - 1)
        for _, seqs in by_tile(max(lower, 0), last):
            try:
                add(await self._bundle(seqs[0], seqs[-1]))
            except (ArchiveMismatch, ArchiveObjectMissing) as error:
                faults.append(TrailFault(seqs[0], "archive_damaged", str(error)))
        if upper <= last:
            await sink(NOTHING_COPIED)
        else:
            await self._rows.copy(self._org_id, last + 1, upper, sink)
        return faults

    async def _bundle(self, first: int, last: int) -> list[StoredEntry]:
        if self._reader is None:
            target = open_target(self._at.url, self._at.settings)
            reader = ArchiveReader(await self._stack.enter_async_context(target), self._org)
            self._size = await archived_size(reader)
            if self._size < self._at.live_from:
                raise ArchiveMismatch(f"the archive of {self._org} has only {self._size} entries")
            self._reader = reader
        reader, size = self._reader, self._size
        found = [entry async for entry in reader.entries(self._org_id, first, last, size)]
        if [entry.seq for entry in found] != list(range(first, last + 1)):
            raise ArchiveMismatch(
                f"the archive does not have all of the entries {first} to {last} in their order"
            )
        return found
