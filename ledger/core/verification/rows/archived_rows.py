"""Streams a trail's archived rows, before the others, in the form of the database's COPY.

They are only fetched here, and checked by the same code as rows of the database. Rows that can't
be fetched are missing in the stream, and reported as a fault of the archive.
"""

from __future__ import annotations

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
from ledger.storage.entries.copy_in import pack_rows
from ledger.storage.entries.copying import Sink
from ledger.tiles import by_tile

HEADER: Final = COPY_SIGNATURE + bytes(8)


class ArchiveAndDatabase:
    """Reads segments of one org's trail from the archive and the database, as one stream."""

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

    async def copy(self, lower: int, upper: int, sink: Sink) -> list[TrailFault]:
        """Stream the rows ``lower`` to ``upper``; returns the archive's faults.

        Raises ArchiveError if the archive can't be read.
        """
        await sink(HEADER)
        faults = []
        last = min(upper, self._at.live_from - 1)
        for _, seqs in by_tile(max(lower, 0), last):
            try:
                await sink(pack_rows(await self._bundle(seqs[0], seqs[-1])))
            except (ArchiveMismatch, ArchiveObjectMissing) as error:
                faults.append(TrailFault(seqs[0], "archive_damaged", str(error)))
        if upper <= last:
            await sink(COPY_TRAILER)
        else:
            await self._rows.copy(self._org_id, last + 1, upper, _HeaderStripper(sink))
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


class _HeaderStripper:
    """A sink that removes the header of a COPY stream, as the header was sent already."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._skip = len(HEADER)

    async def __call__(self, chunk: bytes) -> None:
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        if chunk:
            await self._sink(chunk)
