"""Compares an archive with the live database: the same checkpoints, and the same entries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from ledger.archive.format.layout import CHECKPOINT, HISTORY, pack_folder
from ledger.archive.format.records import ArchivedCheckpoint
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.verification.findings import ArchiveFindings
from ledger.chain import StoredEntry
from ledger.checkpoint import parse_checkpoint
from ledger.entry import from_datetime
from ledger.errors import ArchiveMismatch, ArchiveObjectMissing, FormatError
from ledger.note import parse_note
from ledger.storage import archive_accounts, dropped_months
from ledger.storage.archive_accounts import ArchiveAccount, SignedRow
from ledger.storage.database import Database
from ledger.storage.entries.readable import readable
from ledger.tiles import TILE_WIDTH, EntryTile, tile_in

CHECKPOINTS_AT_ONCE: Final = 1_000


class DatabaseComparison:
    """Compares the archive of one trail, up to its verified size, with a database."""

    def __init__(
        self,
        reader: ArchiveReader,
        accounts: ArchiveAccount,
        database: Database,
        org_id: int,
        size: int,
        found: ArchiveFindings,
    ) -> None:
        self._reader = reader
        self._accounts = accounts
        self._database = database
        self._org_id = org_id
        self._size = size
        self._found = found
        self._live = 0

    async def run(self) -> None:
        """Add the differences to the findings. Raises StorageError, and the target's errors."""
        self._found.checked.add("database")
        await self._extent()
        try:
            await self._checkpoints()
            for tile in range(await self._first_tile(), -(-self._size // TILE_WIDTH)):
                await self._entries(tile)
        except (ArchiveMismatch, ArchiveObjectMissing) as error:
            self._found.fault(self._reader.org, "database", str(error))

    async def _extent(self) -> None:
        """Check that the archive reaches as far as the database has recorded."""
        done = await self._accounts.upto(self._org_id)
        written = max(
            0 if done is None else done.size,
            await dropped_months.live_from(self._database, self._org_id),
        )
        if self._size < written and await self._size_now() < written:
            reason = (
                f"{written} entries were archived here, but the archive's checkpoint has size "
                f"{self._size}: it was set back, or restored from an older copy"
            )
            self._found.fault(CHECKPOINT, "database", reason)

    async def _size_now(self) -> int:
        """Return the size of the current checkpoint: the archive may have grown since."""
        note = await self._reader.checkpoint()
        try:
            return 0 if note is None else parse_checkpoint(parse_note(note).text).size
        except FormatError:
            return 0

    async def _first_tile(self) -> int:
        """Return the first bundle with an entry that is still in the database."""
        self._live = await dropped_months.live_from(self._database, self._org_id)
        return self._live // TILE_WIDTH

    async def _checkpoints(self) -> None:
        rows = self._stored()
        stored = await anext(rows, None)
        async for signed in self._reader.history():
            if signed.size > self._size:
                break
            while stored is not None and stored.size < signed.size:
                reason = f"the checkpoint of size {stored.size} in the database is not archived"
                self._found.fault(HISTORY, "database", reason)
                stored = await anext(rows, None)
            if stored is None or not _same(stored, signed):
                reason = (
                    f"the checkpoint of size {signed.size} differs from the one in the database"
                )
                self._found.fault(CHECKPOINT, "database", reason)
            if stored is not None and stored.size == signed.size:
                stored = await anext(rows, None)
        if stored is not None:
            reason = f"the checkpoint of size {stored.size} in the database is not archived"
            self._found.fault(HISTORY, "database", reason)

    async def _stored(self) -> AsyncIterator[SignedRow]:
        above = -1  # a checkpoint of size 0 is the first of most orgs
        while rows := await archive_accounts.checkpoints(
            self._database, self._org_id, above, self._size, CHECKPOINTS_AT_ONCE
        ):
            for row in rows:
                yield row
            above = rows[-1].size

    async def _entries(self, tile: int) -> None:
        width = tile_in(self._size, 0, tile).width
        start = tile * TILE_WIDTH
        first = max(start, self._live)
        leaves = await self._reader.leaves(EntryTile(tile, width))
        path = EntryTile(tile, width).path()
        async for at, packed in self._reader.packed(tile, first - start, width - 1):
            stored = await self._in_database(path, start + at, start + at + len(packed) - 1)
            for place, row in enumerate(packed, at):
                seq = start + place
                entry = stored.get(seq)
                if seq in stored and entry is None:
                    continue
                if entry is None:
                    self._found.fault(path, "database", f"entry {seq} is not in the database")
                elif entry.leaf != leaves[place]:
                    reason = f"entry {seq} has another leaf in the database"
                    self._found.fault(path, "database", reason)
                elif (entry.signature, entry.payload) != row:
                    reason = f"entry {seq} has another payload or signature in the database"
                    self._found.fault(pack_folder(tile), "database", reason)

    async def _in_database(self, path: str, first: int, last: int) -> dict[int, StoredEntry | None]:
        """Return the stored entries of one pack by seq; None where one can't be read.

        Entries that can't be read, or are stored twice, are added to the findings.
        """
        found = await readable(self._database, self._org_id, first, last)
        stored: dict[int, StoredEntry | None] = {}
        for what in found.unreadable:
            reason = (
                f"entries {what.first_seq} to {what.last_seq} can't be read in the database: "
                f"{what.reason}"
            )
            self._found.fault(path, "database", reason)
            stored.update(
                dict.fromkeys(range(max(what.first_seq, first), min(what.last_seq, last) + 1))
            )
        seqs = [entry.seq for entry in found.entries]
        if len(set(seqs)) != len(seqs):
            reason = f"one of the entries {first} to {last} is in the database twice"
            self._found.fault(path, "database", reason)
        return stored | {entry.seq: entry for entry in found.entries}


def _same(stored: SignedRow, signed: ArchivedCheckpoint) -> bool:
    return (stored.size, stored.note, from_datetime(stored.signed_at)) == (
        signed.size,
        signed.note,
        signed.signed_us,
    )
