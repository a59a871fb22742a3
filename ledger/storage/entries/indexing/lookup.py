"""Looks up in the search index which entries of a range have tags; says where it can't know.

A range is walked in parts: a part that the index covers has its candidates, and any other part is
left to the caller, which reads the tags of its blocks. So a row that is missing or wrong hides no
entry.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, repeat
from typing import Final, NamedTuple

from ledger.blocks.postings import (
    ACTOR,
    BUCKETS,
    RUN_BITS,
    RUN_LEVEL,
    RUNS_IN_STRETCH,
    STRETCH_BITS,
    STRETCH_LEVEL,
    SUBJECT,
    offsets_in_bucket,
    offsets_in_run,
    offsets_of_frequent,
    place_name,
)
from ledger.storage.database import Connection
from ledger.storage.entries.indexing import index_rows
from ledger.storage.entries.indexing.index_rows import BITS, AuthenticRow, Place, Reach
from ledger.storage.entries.searching.block_rows import BlockRange

MAX_REPORTED: Final = 100
"""Names of rows that one search reports."""
_STRETCHES_AT_ONCE: Final = (2, 8, 32)
"""Stretches whose rows are read at once: few at first, as a page is often filled by them."""


class TagPair(NamedTuple):
    """Short tags of an actor and a subject; 0 stands for any, not for both."""

    actor: int
    subject: int

    def by_role(self) -> list[tuple[int, int]]:
        """Return each tag that is not 0, with its role."""
        both = ((self.actor, ACTOR), (self.subject, SUBJECT))
        return [(tag, role) for tag, role in both if tag]


class SearchIndex(NamedTuple):
    """The key of the search index, and who is told of rows that are missing or wrong.

    ``report`` is called with an org and the names of its rows, after the search. It raises nothing.
    """

    key: bytes
    report: Callable[[int, Sequence[str]], Awaitable[None]]


class IndexedPart(NamedTuple):
    """A part of a range, and where its entries with the tags are, ascending; None: not known.

    ``offsets`` are those from ``start``. The entries were anchored from ``since`` to ``until``, as
    far as these are known.
    """

    range: BlockRange
    offsets: Sequence[int] | None
    start: int = 0
    since: datetime | None = None
    until: datetime | None = None


class _Hits(NamedTuple):
    offsets: Sequence[int]
    since: datetime | None
    until: datetime


class TagLookup:
    """Looks up tags for one search; ``damaged`` names the rows that are missing or wrong."""

    def __init__(self, connection: Connection, key: bytes, tags: TagPair) -> None:
        self._connection = connection
        self._key = key
        self._tags = tags.by_role()
        self.damaged: dict[str, None] = {}

    async def parts(self, span: BlockRange) -> AsyncIterator[IndexedPart]:
        """Yield all parts of a range, in its order. Raises asyncpg's errors."""
        # The run and stretch in which the range ends may go on after it.
        end = ((span.last >> STRETCH_BITS) + 1) << STRETCH_BITS
        reach = await index_rows.reach(self._connection, span.org_id, end)
        indexed = span._replace(last=min(span.last, (reach.runs << RUN_BITS) - 1))
        beyond = IndexedPart(span._replace(first=max(span.first, indexed.last + 1)), None)
        has_tail = beyond.range.first <= span.last
        if has_tail and span.descending:
            yield beyond
        for stretches in _groups(indexed):
            for part in await self._of_stretches(indexed, stretches, reach):
                yield part
        if has_tail and not span.descending:
            yield beyond

    async def _of_stretches(
        self, span: BlockRange, stretches: range, reach: Reach
    ) -> list[IndexedPart]:
        """Return the parts of consecutive stretches, in the order of the range."""
        built = range(stretches.start, min(stretches.stop, reach.stretches))
        found = await self._hits(span.org_id, STRETCH_LEVEL, built)
        parts: list[IndexedPart] = []
        for stretch in reversed(stretches) if span.descending else stretches:
            if stretch in found:
                parts.append(_part(span, STRETCH_LEVEL, stretch, found[stretch]))
            else:
                parts += await self._of_runs(span, stretch)
        return parts

    async def _of_runs(self, span: BlockRange, stretch: int) -> list[IndexedPart]:
        """Return the parts of the runs of a stretch."""
        first = max(stretch * RUNS_IN_STRETCH, span.first >> RUN_BITS)
        last = min((stretch + 1) * RUNS_IN_STRETCH - 1, span.last >> RUN_BITS)
        runs = range(first, last + 1)
        found = await self._hits(span.org_id, RUN_LEVEL, runs)
        return [
            _part(span, RUN_LEVEL, run, found.get(run))
            for run in (reversed(runs) if span.descending else runs)
        ]

    async def _hits(self, org_id: int, level: int, numbers: range) -> dict[int, _Hits]:
        """Return the hits of those of these runs or stretches whose rows are right."""
        if not numbers:
            return {}
        # The row before says since when the entries were anchored.
        asked = range(max(numbers.start - 1, 0), numbers.stop)
        rows = await self._rows(
            org_id, level, [place for n in asked for place in self._places(level, n)]
        )
        own = [place for n in numbers for place in self._own_places(rows, level, n)]
        rows |= await self._rows(org_id, level, own)
        found: dict[int, _Hits] = {}
        for number in numbers:
            offsets = self._offsets(rows, level, number)
            if offsets is not None:
                first = self._places(level, number)[0]
                before = rows.get(first._replace(stretch=number - 1))
                since = None if before is None else before.ended_at
                found[number] = _Hits(offsets, since, rows[first].ended_at)
        return found

    async def _rows(
        self, org_id: int, level: int, places: Sequence[Place]
    ) -> dict[Place, AuthenticRow]:
        if not places:
            return {}
        distinct = list(dict.fromkeys(places))
        return await index_rows.authentic(self._connection, org_id, level, distinct, self._key)

    def _places(self, level: int, number: int) -> list[Place]:
        """Return the places of the rows that have the tags, or say that these are frequent."""
        return [Place(number, _bucket(level, tag)) for tag, _ in self._tags]

    def _own_places(
        self, rows: Mapping[Place, AuthenticRow], level: int, number: int
    ) -> Iterator[Place]:
        """Yield the places of the rows of frequent tags."""
        if level == RUN_LEVEL:
            return
        for tag, role in self._tags:
            found = rows.get(Place(number, _bucket(level, tag)))
            if found is not None and offsets_in_bucket(found.row, tag, role) is None:
                yield Place(number, BUCKETS + tag)

    def _offsets(
        self, rows: Mapping[Place, AuthenticRow], level: int, number: int
    ) -> Sequence[int] | None:
        """Return the offsets of the entries with all tags; None if a row is missing or wrong."""
        found: list[Sequence[int]] = []
        for tag, role in self._tags:
            offsets = self._offsets_of(rows, level, number, tag, role)
            if offsets is None:
                return None
            found.append(offsets)
        return found[0] if len(found) == 1 else sorted(set(found[0]).intersection(*found[1:]))

    def _offsets_of(
        self, rows: Mapping[Place, AuthenticRow], level: int, number: int, tag: int, role: int
    ) -> Sequence[int] | None:
        place = Place(number, _bucket(level, tag))
        found = rows.get(place)
        if found is None:
            self._report(level, place)
            return None
        if level == RUN_LEVEL:
            return offsets_in_run(found.row, tag, role)
        offsets = offsets_in_bucket(found.row, tag, role)
        if offsets is not None:
            return offsets
        own = rows.get(Place(number, BUCKETS + tag))
        if own is None:
            self._report(level, Place(number, BUCKETS + tag))
            return None
        return offsets_of_frequent(own.row, role)

    def _report(self, level: int, place: Place) -> None:
        if len(self.damaged) < MAX_REPORTED:
            self.damaged[place_name(level, *place)] = None


def _bucket(level: int, tag: int) -> int:
    return 0 if level == RUN_LEVEL else tag >> 16


def _groups(span: BlockRange) -> Iterator[range]:
    """Yield the numbers of the stretches of a range, a few at once, in its order."""
    low, high = span.first >> STRETCH_BITS, (span.last >> STRETCH_BITS) + 1
    sizes = chain(_STRETCHES_AT_ONCE, repeat(_STRETCHES_AT_ONCE[-1]))
    while span.first <= span.last and low < high:
        size = next(sizes)
        if span.descending:
            yield range(max(high - size, low), high)
            high -= size
        else:
            yield range(low, min(low + size, high))
            low += size


def _part(span: BlockRange, level: int, number: int, hits: _Hits | None) -> IndexedPart:
    """Return the part of a range that is in a run or stretch."""
    start = number << BITS[level]
    end = start + (1 << BITS[level]) - 1
    inside = span._replace(first=max(span.first, start), last=min(span.last, end))
    if hits is None:
        return IndexedPart(inside, None)
    low = bisect_left(hits.offsets, inside.first - start)
    high = bisect_right(hits.offsets, inside.last - start)
    return IndexedPart(inside, hits.offsets[low:high], start, hits.since, hits.until)
