"""Reads a trail as one sequence, from the database and from the archive.

The database is read first. Only if an entry is missing there, the seq of the first live entry
is read, and entries below it are read from the archive: the same answer, slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ledger.chain import StoredEntry
from ledger.core.reading.past import ArchivePast
from ledger.core.reading.past_search import PastSearch
from ledger.entry import RecordId, from_datetime
from ledger.errors import DatabaseUnavailable
from ledger.storage import dropped_months, entry_bundles, trees
from ledger.storage.database import Database
from ledger.storage.entries import heads, search
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.entries.indexing.lookup import SearchIndex
from ledger.storage.entries.picked import chosen, single
from ledger.storage.entries.search import EntrySearch, Page
from ledger.storage.trees import StoredCheckpoint

TRIES: Final = 5
"""Attempts to read a page while months are being dropped, which happens rarely."""


class TrailReader:
    """Reads entries of all orgs. Without an archive only entries in the database can be read.

    ``index`` makes searches by actor or subject faster. Methods raise StorageError, and
    ArchiveError if dropped entries can't be read.
    """

    def __init__(
        self,
        database: Database,
        past: ArchivePast | None = None,
        index: SearchIndex | None = None,
    ) -> None:
        self._database = database
        self._index = index
        self._past = past or ArchivePast(database, None)
        self._search = PastSearch(database, self._past)

    async def close(self) -> None:
        """Close the archive."""
        await self._past.close()

    async def entry(self, place: RecordId) -> StoredEntry | None:
        """The entry with this record id, or None."""
        found = await single.entry(self._database, place)
        if found is not None or not await self.was_dropped(place.org_id, place.seq):
            return found
        entry = await self._past.entry(place.org_id, place.seq)
        return entry if from_datetime(entry.anchored_at) == place.anchored_us else None

    async def hash_and_checkpoint(
        self, place: RecordId
    ) -> tuple[bytes, StoredCheckpoint | None] | None:
        """The stored hash of the entry with this record id, and its org's newest checkpoint."""
        found = await single.hash_and_checkpoint(self._database, place)
        if found is None and (entry := await self.entry(place)) is not None:
            return entry.entry_hash, await trees.newest_checkpoint(self._database, place.org_id)
        return found

    async def row_at(self, org_id: int, seq: int) -> StoredEntry | None:
        """A row at a seq in the database, with any time, or None."""
        return await single.standing_at(self._database, org_id, seq)

    async def rows_at(self, org_id: int, seq: int) -> int:
        """The number of rows at a seq, counting a dropped one."""
        dropped = await self.was_dropped(org_id, seq)
        return await single.count_at(self._database, org_id, seq) + dropped

    async def has(self, org_id: int, seq: int) -> bool:
        """True if the trail has this seq, by its head row."""
        head_seq, _hash, _time = await self.head(org_id)
        return seq <= head_seq

    async def head(self, org_id: int) -> tuple[int, bytes, datetime]:
        """Seq (-1 for an empty trail), hash and time of the newest entry, by the head row."""
        return await heads.head(self._database, org_id)

    async def entry_before(self, this: StoredEntry) -> StoredEntry | None:
        """The entry one seq before this one, or None."""
        if not this.seq:
            return None
        found = await single.before(self._database, this)
        if found is not None or not await self.was_dropped(this.org_id, this.seq - 1):
            return found
        return await self._past.entry(this.org_id, this.seq - 1)

    async def page(
        self,
        org_id: int,
        where: EntrySearch,
        *,
        from_seq: int | None,
        descending: bool,
        limit: int,
    ) -> Page:
        """One page, as of :func:`ledger.storage.entries.search.page`.

        No page holds both archived and live entries: it ends between them. Raises
        DatabaseUnavailable if months keep being dropped meanwhile.
        """
        for _ in range(TRIES):
            floor = await dropped_months.live_from(self._database, org_id)
            below = from_seq is not None and from_seq < floor
            if floor and (below or (not descending and from_seq is None)):
                page = await self._search.page(
                    org_id, where, floor, from_seq=from_seq, descending=descending, limit=limit
                )
            else:
                page = await search.page(
                    self._database,
                    org_id,
                    where,
                    from_seq=from_seq,
                    descending=descending,
                    limit=limit,
                    floor=floor,
                    index=self._index,
                )
                if floor and descending and page.next_seq is None:
                    page = page._replace(next_seq=await self._search.newest(org_id, where, floor))
            if await dropped_months.live_from(self._database, org_id) == floor:
                return page
        raise DatabaseUnavailable("older months are being dropped from the database; retry shortly")

    async def places(
        self, org_id: int, where: EntrySearch, *, from_seq: int, to_seq: int, limit: int
    ) -> tuple[list[tuple[int, datetime]], int | None]:
        """The (seq, time) of matching entries, as of :func:`ledger.storage.entries.search.places`."""
        for _ in range(TRIES):
            floor = await dropped_months.live_from(self._database, org_id)
            if from_seq < floor:
                found = await self._search.places(
                    org_id, where, floor, from_seq=from_seq, to_seq=to_seq, limit=limit
                )
            else:
                found = await search.places(
                    self._database,
                    org_id,
                    where,
                    from_seq=from_seq,
                    to_seq=to_seq,
                    limit=limit,
                    floor=floor,
                    index=self._index,
                )
            if await dropped_months.live_from(self._database, org_id) == floor:
                return found
        raise DatabaseUnavailable("older months are being dropped from the database; retry shortly")

    async def leaves(self, org_id: int, first: int, count: int) -> list[bytes] | None:
        """``count`` leaves of one entry bundle, or None if the signed tree does not have them.

        Raises DamagedTrail.
        """
        try:
            found = await entry_bundles.leaves(self._database, org_id, first, count)
        except DamagedTrail:
            floor = await dropped_months.live_from(self._database, org_id)
            if floor <= first:
                raise
        else:
            floor = 0 if found else await dropped_months.live_from(self._database, org_id)
            if floor <= first:
                return found
        below = min(floor - first, count)
        leaves = await self._past.leaves(org_id, first, first + below - 1)
        if below == count:
            return leaves
        rest = await entry_bundles.leaves(self._database, org_id, floor, count - below)
        return None if rest is None else leaves + rest

    async def present(self, org_id: int, places: Sequence[RecordId]) -> set[int]:
        """The seqs of those of these places that have an entry."""
        found = await chosen.present(self._database, org_id, places)
        missing = [place for place in places if place.seq not in found]
        floor = await dropped_months.live_from(self._database, org_id) if missing else 0
        for place in missing:
            if place.seq < floor:
                entry = await self._past.entry(org_id, place.seq)
                if from_datetime(entry.anchored_at) == place.anchored_us:
                    found.add(place.seq)
        return found

    async def times(self, org_id: int, seqs: Sequence[int]) -> dict[int, datetime]:
        """The times of the entries at these few seqs, by seq; missing entries are left out."""
        found = await chosen.times(self._database, org_id, seqs)
        missing = [seq for seq in seqs if seq not in found]
        floor = await dropped_months.live_from(self._database, org_id) if missing else 0
        for seq in missing:
            if 0 <= seq < floor:
                found[seq] = (await self._past.entry(org_id, seq)).anchored_at
        return found

    async def entries(
        self, org_id: int, seqs: Sequence[int], since: datetime, until: datetime
    ) -> list[StoredEntry]:
        """The first of these entries, as of :func:`ledger.storage.entries.picked.chosen.page`."""
        found = await chosen.page(self._database, org_id, seqs, since, until)
        if (found and found[0].seq == seqs[0]) or not await self.was_dropped(org_id, seqs[0]):
            return found
        floor = await dropped_months.live_from(self._database, org_id)
        return await self._search.entries(org_id, [seq for seq in seqs if seq < floor])

    async def was_dropped(self, org_id: int, seq: int) -> bool:
        """True if the entry at this seq was archived and dropped from the database."""
        return seq < await dropped_months.live_from(self._database, org_id)
