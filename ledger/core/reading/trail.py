"""A trail as readers see it, wherever its entries are: in the database, or in the archive.

The database is asked first. Only who misses something there looks up where the live entries
begin, and reads what is below from the archive: the same answer, slower.
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
from ledger.storage import bundle_reads, dropped_months, entry_bundles, search
from ledger.storage.database import Database
from ledger.storage.entry_bundles import DamagedTrail
from ledger.storage.search import EntrySearch, Page

TRIES: Final = 5
"""Reads of a page that are begun anew as a month left meanwhile; months are dropped rarely."""


class TrailReader:
    """Reads entries of all orgs. Without an archive, of a database from which nothing has left.

    Methods raise StorageError and, where entries that left can't be read, ArchiveError.
    """

    def __init__(self, database: Database, past: ArchivePast | None = None) -> None:
        self._database = database
        self._past = past or ArchivePast(database, None)
        self._search = PastSearch(database, self._past)

    async def close(self) -> None:
        """Let go of the archive."""
        await self._past.close()

    async def entry(self, place: RecordId) -> StoredEntry | None:
        """The entry that a record id names."""
        found = await search.entry(self._database, place)
        if found is not None or not await self.has_left(place.org_id, place.seq):
            return found
        entry = await self._past.entry(place.org_id, place.seq)
        return entry if from_datetime(entry.anchored_at) == place.anchored_us else None

    async def standing_at(self, org_id: int, seq: int) -> StoredEntry | None:
        """Whatever row stands at a seq in the database, whenever it says that it was written."""
        return await search.standing_at(self._database, org_id, seq)

    async def rows_at(self, org_id: int, seq: int) -> int:
        """How many rows stand at a seq, with the one that left the database where it did."""
        left = await self.has_left(org_id, seq)
        return await search.rows_at(self._database, org_id, seq) + left

    async def has(self, org_id: int, seq: int) -> bool:
        """Whether the trail goes as far as this seq, by its head row."""
        head_seq, _hash, _time = await search.head(self._database, org_id)
        return seq <= head_seq

    async def entry_before(self, this: StoredEntry) -> StoredEntry | None:
        """The entry one seq before this one."""
        if not this.seq:
            return None
        found = await search.entry_before(self._database, this)
        if found is not None or not await self.has_left(this.org_id, this.seq - 1):
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
        """One page, as :func:`ledger.storage.search.page` has it; it ends where live entries do."""
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
                )
                if floor and descending and page.next_seq is None:
                    page = page._replace(next_seq=await self._search.newest(org_id, where, floor))
            if await dropped_months.live_from(self._database, org_id) == floor:
                return page
        raise DatabaseUnavailable("months are leaving the database; ask again")

    async def places(
        self, org_id: int, where: EntrySearch, *, from_seq: int, to_seq: int, limit: int
    ) -> tuple[list[tuple[int, datetime]], int | None]:
        """Where entries that match stand, as :func:`ledger.storage.search.places` has it."""
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
                )
            if await dropped_months.live_from(self._database, org_id) == floor:
                return found
        raise DatabaseUnavailable("months are leaving the database; ask again")

    async def leaves(self, org_id: int, first: int, count: int) -> list[bytes] | None:
        """Leaves of one bundle of a log, None where its signed tree has no such. Raises DamagedTrail."""
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
        """The seqs of those places at which an entry stands."""
        found = await bundle_reads.present(self._database, org_id, places)
        missing = [place for place in places if place.seq not in found]
        floor = await dropped_months.live_from(self._database, org_id) if missing else 0
        for place in missing:
            if place.seq < floor:
                entry = await self._past.entry(org_id, place.seq)
                if from_datetime(entry.anchored_at) == place.anchored_us:
                    found.add(place.seq)
        return found

    async def times(self, org_id: int, seqs: Sequence[int]) -> dict[int, datetime]:
        """When the entries of these few seqs were anchored; those that are not there are left out."""
        found = await bundle_reads.times(self._database, org_id, seqs)
        missing = [seq for seq in seqs if seq not in found]
        floor = await dropped_months.live_from(self._database, org_id) if missing else 0
        for seq in missing:
            if 0 <= seq < floor:
                found[seq] = (await self._past.entry(org_id, seq)).anchored_at
        return found

    async def entries(
        self, org_id: int, seqs: Sequence[int], since: datetime, until: datetime
    ) -> list[StoredEntry]:
        """The first of these entries, as :func:`ledger.storage.bundle_reads.entries` has it."""
        found = await bundle_reads.entries(self._database, org_id, seqs, since, until)
        if (found and found[0].seq == seqs[0]) or not await self.has_left(org_id, seqs[0]):
            return found
        floor = await dropped_months.live_from(self._database, org_id)
        return await self._search.entries(org_id, [seq for seq in seqs if seq < floor])

    async def has_left(self, org_id: int, seq: int) -> bool:
        """Whether the entry of this seq left the database for the archive."""
        return seq < await dropped_months.live_from(self._database, org_id)
