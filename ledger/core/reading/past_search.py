"""Searching what left the database: bundle by bundle, in the order of seqs.

There is no index: a leaf says all that can be asked for. A page looks at so many leaves and
no more; the seq it gives goes on from there.
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
from ledger.storage.search import PAGE_BYTES, EntrySearch, Page
from ledger.tiles import TILE_WIDTH

BUNDLES_AT_ONCE: Final = 16
"""Bundles that one page looks into: 4,096 entries."""


class EntryLocation(NamedTuple):
    """Where an entry stands, and how many bytes its payload has."""

    seq: int
    anchored_at: datetime
    size: int


class PastSearch:
    """Pages of what left. ``floor`` is where the live entries begin."""

    def __init__(self, database: Database, past: ArchivePast) -> None:
        self._database = database
        self._past = past

    async def newest(self, org_id: int, where: EntrySearch, floor: int) -> int | None:
        """The highest seq that left and may match, None where none may."""
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
        """One page from ``from_seq`` (None: the oldest) on; what left ends a page."""
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
                    return await self._page(org_id, chosen, _following(at, low, high, floor))
            at = first - 1 if descending else last + 1
        return await self._page(org_id, chosen, _following(at, low, high, floor))

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
        """Where entries that match stand, oldest first, and the seq to go on from."""
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
        following = at if at <= high else floor
        return [(one.seq, one.anchored_at) for one in found], (
            following if following <= to_seq else None
        )

    async def entries(self, org_id: int, seqs: Sequence[int]) -> list[StoredEntry]:
        """The first of these entries, of one bundle, within the bytes of a page."""
        wanted = {seq for seq in seqs if seq // TILE_WIDTH == seqs[0] // TILE_WIDTH}
        leaves = await self._past.leaves(org_id, min(wanted), max(wanted))
        chosen: list[int] = []
        held = 0
        for leaf in map(decode_leaf, leaves):
            if leaf.seq in wanted and (held < PAGE_BYTES or not chosen):
                chosen.append(leaf.seq)
                held += leaf.payload.size
        return await self._read(org_id, chosen)

    async def _page(
        self, org_id: int, chosen: Sequence[EntryLocation], following: int | None
    ) -> Page:
        entries: list[StoredEntry] = []
        for _, places in groupby(chosen, lambda place: place.seq // TILE_WIDTH):
            seqs = [place.seq for place in places]
            found = {entry.seq: entry for entry in await self._read(org_id, sorted(seqs))}
            entries += [found[seq] for seq in seqs]
        return Page(entries, following)

    async def _read(self, org_id: int, seqs: Sequence[int]) -> list[StoredEntry]:
        """These entries of one bundle, by ascending seq."""
        wanted = set(seqs)
        return [
            entry
            async for entry in self._past.entries(org_id, seqs[0], seqs[-1])
            if entry.seq in wanted
        ]

    async def _matching(
        self, org_id: int, where: EntrySearch, first: int, last: int
    ) -> list[EntryLocation]:
        """The entries of one bundle that match, by ascending seq."""
        return list(_match(where, await self._past.leaves(org_id, first, last)))

    async def _bounds(self, org_id: int, where: EntrySearch, floor: int) -> tuple[int, int]:
        """The seqs that can match, as far as the times of months tell."""
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
    """The seqs of the bundle that ``at`` is in, from there on."""
    start = at // TILE_WIDTH * TILE_WIDTH
    return (max(start, low), at) if descending else (at, min(start + TILE_WIDTH - 1, high))


def _following(at: int, low: int, high: int, floor: int) -> int | None:
    """The seq to go on from: here, with the live entries, or nowhere."""
    if at < low:
        return None
    return at if at <= high else floor


def _match(where: EntrySearch, leaves: Iterable[bytes]) -> Iterable[EntryLocation]:
    for leaf in leaves:
        if any(pattern not in leaf for pattern in where.patterns):
            continue
        said = decode_leaf(leaf)
        at = datetime.fromisoformat(said.anchored_at)
        if (
            (not where.actor_tag or search_tag(said.actor) == where.actor_tag)
            and (not where.subject_tag or search_tag(said.subject) == where.subject_tag)
            and (where.since is None or at >= where.since)
            and (where.until is None or at < where.until)
        ):
            yield EntryLocation(said.seq, at, said.payload.size)
