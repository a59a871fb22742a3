"""Searches entries that were dropped from the database: bundle by bundle, in the order of seqs.

There is no index: leaves have all the fields that a search can name. A page reads a bounded
number of leaves and returns the seq from which the next page continues.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, NamedTuple

from ledger.chain import StoredEntry
from ledger.core.reading.past import ArchivePast
from ledger.entry import decode_leaf, search_tag
from ledger.storage import dropped_months
from ledger.storage.database import Database
from ledger.storage.entries.columns import PAGE_BYTES
from ledger.storage.entries.search import EntrySearch, Page
from ledger.tiles import TILE_WIDTH

BUNDLES_AT_ONCE: Final = 16
"""Bundles that one page reads at most: 4,096 entries."""


class EntryLocation(NamedTuple):
    """The place of an entry, and the number of bytes of its payload."""

    seq: int
    anchored_at: datetime
    size: int


class PastSearch:
    """Pages of dropped entries. ``floor`` is the seq of the first entry in the database."""

    def __init__(self, database: Database, past: ArchivePast) -> None:
        self._database = database
        self._past = past

    async def newest(self, org_id: int, where: EntrySearch, floor: int) -> int | None:
        """The highest seq that was dropped and may match, or None."""
        low, high = await self._bounds(org_id, where, floor)
        return high if low <= high else None

    async def page(
        self,
        org_id: int,
        where: EntrySearch,
        floor: int,
        *,
        from_seq: int | None,
        descending: bool,
        limit: int,
    ) -> Page:
        """One page from ``from_seq`` (None: the oldest) on; it ends at the last dropped entry."""
        low, high = await self._bounds(org_id, where, floor)
        if from_seq is not None:
            low, high = (low, min(high, from_seq)) if descending else (max(low, from_seq), high)
        chosen: list[EntryLocation] = []
        at = high if descending else low
        for _ in range(BUNDLES_AT_ONCE):
            if not low <= at <= high:
                break
            first, last = _within(at, low, high, descending=descending)
            found = await self._matching(org_id, where, first, last)
            for place in reversed(found) if descending else found:
                chosen.append(place)
                if len(chosen) == limit or sum(one.size for one in chosen) >= PAGE_BYTES:
                    at = place.seq - 1 if descending else place.seq + 1
                    return await self._page(org_id, chosen, _next_seq(at, low, high, floor))
            at = first - 1 if descending else last + 1
        return await self._page(org_id, chosen, _next_seq(at, low, high, floor))

    async def places(
        self,
        org_id: int,
        where: EntrySearch,
        floor: int,
        *,
        from_seq: int,
        to_seq: int,
        limit: int,
    ) -> tuple[list[tuple[int, datetime]], int | None]:
        """The (seq, time) of matching entries, oldest first, and the seq to continue from or None."""
        low, high = await self._bounds(org_id, where, floor)
        at, high = max(low, from_seq), min(high, to_seq)
        found: list[EntryLocation] = []
        for _ in range(BUNDLES_AT_ONCE):
            if at > high:
                break
            first, last = _within(at, at, high, descending=False)
            found += await self._matching(org_id, where, first, last)
            at = last + 1
            if len(found) >= limit:
                found = found[:limit]
                at = found[-1].seq + 1
                break
        next_seq = at if at <= high else floor
        return [(one.seq, one.anchored_at) for one in found], (
            next_seq if next_seq <= to_seq else None
        )

    async def entries(self, org_id: int, seqs: Sequence[int]) -> list[StoredEntry]:
        """The first of these entries: those in the first one's bundle, within a page's bytes."""
        in_bundle = {seq for seq in seqs if seq // TILE_WIDTH == seqs[0] // TILE_WIDTH}
        leaves = await self._past.leaves(org_id, min(in_bundle), max(in_bundle))
        chosen: list[int] = []
        chosen_bytes = 0
        for leaf in map(decode_leaf, leaves):
            if leaf.seq in in_bundle and (chosen_bytes < PAGE_BYTES or not chosen):
                chosen.append(leaf.seq)
                chosen_bytes += leaf.payload.size
        return await self._read(org_id, chosen)

    async def _page(
        self, org_id: int, chosen: Sequence[EntryLocation], next_seq: int | None
    ) -> Page:
        entries: list[StoredEntry] = []
        for _, places in groupby(chosen, lambda place: place.seq // TILE_WIDTH):
            seqs = [place.seq for place in places]
            found = {entry.seq: entry for entry in await self._read(org_id, sorted(seqs))}
            entries += [found[seq] for seq in seqs]
        return Page(entries, next_seq)

    async def _read(self, org_id: int, seqs: Sequence[int]) -> list[StoredEntry]:
        """These entries of one bundle, by ascending seq."""
        chosen = set(seqs)
        return [
            entry
            async for entry in self._past.entries(org_id, seqs[0], seqs[-1])
            if entry.seq in chosen
        ]

    async def _matching(
        self, org_id: int, where: EntrySearch, first: int, last: int
    ) -> list[EntryLocation]:
        """The entries of one bundle that match, by ascending seq."""
        return list(_match(where, await self._past.leaves(org_id, first, last)))

    async def _bounds(self, org_id: int, where: EntrySearch, floor: int) -> tuple[int, int]:
        """The lowest and highest seq that may match, by the months' times; (0, -1) for none."""
        months = [
            month
            for month in await dropped_months.of_org(self._database, org_id)
            if (where.since is None or month.last_at >= where.since)
            and (where.until is None or month.first_at < where.until)
        ]
        if not months:
            return 0, -1
        return months[0].first_seq, min(months[-1].last_seq, floor - 1)


def _within(at: int, low: int, high: int, *, descending: bool) -> tuple[int, int]:
    """The first and last seq to read of the bundle with ``at``, from ``at`` in the search's order."""
    start = at // TILE_WIDTH * TILE_WIDTH
    return (max(start, low), at) if descending else (at, min(start + TILE_WIDTH - 1, high))


def _next_seq(at: int, low: int, high: int, floor: int) -> int | None:
    """The seq to continue from: ``at``, the first live entry, or None at the end."""
    if at < low:
        return None
    return at if at <= high else floor


def _match(where: EntrySearch, leaves: Iterable[bytes]) -> Iterable[EntryLocation]:
    for leaf in leaves:
        if any(pattern not in leaf for pattern in where.patterns):
            continue
        fields = decode_leaf(leaf)
        at = datetime.fromisoformat(fields.anchored_at)
        if (
            (not where.actor_tag or search_tag(fields.actor) == where.actor_tag)
            and (not where.subject_tag or search_tag(fields.subject) == where.subject_tag)
            and (where.since is None or at >= where.since)
            and (where.until is None or at < where.until)
        ):
            yield EntryLocation(fields.seq, at, fields.payload.size)
