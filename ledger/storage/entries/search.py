"""Pages of entries by filter.

Actor and subject are found by the search index and, where it can't tell, by the tags of blocks,
which are read without their leaves; the leaf confirms. The other fields are in the leaf only: canonical JSON, in which the bytes
``"event_type":"login"`` can't occur inside a string (its quotes would be escaped), so a byte
search is exact. A page searches a window of seqs; the cursor continues from there. All reads see
every committed entry. Entries that can't be read end a page; a page that begins with them is
refused.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from ledger.blocks.reading import UnreadableEntries
from ledger.chain import StoredEntry
from ledger.errors import ProblemType, QuireError
from ledger.storage.asking import Work, asking
from ledger.storage.database import Connection, Database
from ledger.storage.entries.blocks import unreadable
from ledger.storage.entries.columns import PAGE_BYTES
from ledger.storage.entries.heads import HEAD
from ledger.storage.entries.indexing.lookup import SearchIndex, TagLookup, TagPair
from ledger.storage.entries.searching import matching
from ledger.storage.entries.searching.block_rows import BlockRange
from ledger.storage.entries.searching.locating import Located, located
from ledger.storage.entries.searching.matching import LeafFilter, Match
from ledger.storage.entries.searching.stored_frames import completed

SCAN_WINDOW: Final = 100_000
"""Number of seqs that one page of a filter without actor or subject scans."""
SEARCH_S: Final = 10.0
"""After this time a page ends with what was found, and one statement is cancelled."""
STRETCH_BITS: Final = 14
TAG_WINDOW: Final = 1_024 << STRETCH_BITS
"""Number of seqs, in whole stretches, that one page of a search by actor or subject covers."""


class SearchTooLong(QuireError):
    """The database needs too long for one step of a search."""

    problem_type = ProblemType(
        "search-too-long",
        422,
        "The search takes too long",
        "the database needs more than 10 s for this search: narrow the filter by since and until, by "
        "actor or by subject",
    )


class EntrySearch(NamedTuple):
    """A filter: tags (0: any), byte patterns of the leaf, a time range.

    The tags only select: the patterns must name actor and subject as well.
    """

    actor_tag: int
    subject_tag: int
    patterns: Sequence[bytes]
    since: datetime | None
    until: datetime | None


class Page(NamedTuple):
    """Entries in order, and the seq at which the next page starts (None at the end)."""

    entries: list[StoredEntry]
    next_seq: int | None


class _Found(NamedTuple):
    """Records in order, the last seq searched, and what ended the search if it can't be read."""

    records: list[Match]
    searched: int
    unreadable: UnreadableEntries | None


# Forces the order of the primary key: a planner with old statistics would sort all rows of an org.
# The plans are the same for all parameters: to plan a page anew costs as much as to read it.
IN_ORDER: Final = """
SET LOCAL enable_sort = off;
SET LOCAL plan_cache_mode = force_generic_plan"""
# Key columns only: the block that holds a seq, or none.
BLOCK_AT: Final = """
SELECT anchored_at, first_seq, last_seq FROM entries
WHERE org_id = $1 AND last_seq >= $2 AND last_seq <= ($2::bigint | 255)
  AND anchored_at BETWEEN 'epoch' AND '4253-01-01Z' ORDER BY last_seq LIMIT 1"""


async def page(
    database: Database,
    org_id: int,
    where: EntrySearch,
    *,
    from_seq: int | None,
    descending: bool,
    limit: int,
    floor: int = 0,
    index: SearchIndex | None = None,
) -> Page:
    """Return one page from ``from_seq`` on (None: from the start), with no seq below ``floor``.

    ``index`` makes a search by actor or subject faster. Raises DamagedTrail if its first entries
    can't be read, SearchTooLong, and QueueFull.
    """
    async with _searching(database, where) as connection:
        lookup = _lookup(connection, where, index)
        low, high = await _bounds(connection, org_id, where, floor)
        if from_seq is not None:
            low, high = (low, min(high, from_seq)) if descending else (max(low, from_seq), high)
        first, last = _window(low, high, _window_of(where), descending=descending)
        if first > last:
            return Page([], None)
        span = BlockRange(org_id, first, last, descending, where.since, where.until)
        found = await _search(connection, span, where, limit, PAGE_BYTES, lookup)
        entries, damaged = await completed(connection, org_id, found.records)
    await _report(org_id, lookup, index)
    if damaged is not None:
        searched = _before(found.records[len(entries)].seq, descending=descending)
        found = _Found(found.records[: len(entries)], searched, damaged)
    _require_progress(found.unreadable, len(entries))
    following = found.searched - 1 if descending else found.searched + 1
    return Page(entries, following if low <= following <= high else None)


async def places(
    database: Database,
    org_id: int,
    where: EntrySearch,
    *,
    from_seq: int,
    to_seq: int,
    limit: int,
    floor: int = 0,
    index: SearchIndex | None = None,
) -> tuple[list[tuple[int, datetime]], int | None]:
    """Return seq and time of matching entries from ``from_seq`` to ``to_seq``, oldest first.

    The second value is the seq to continue from, None at the end. Seqs below
    ``floor`` are not searched. Raises as :func:`page` does.
    """
    async with _searching(database, where) as connection:
        lookup = _lookup(connection, where, index)
        low, high = await _bounds(connection, org_id, where, floor)
        high = min(high, to_seq)
        first, last = _window(max(low, from_seq), high, _window_of(where), descending=False)
        if first > last:
            return [], None
        span = BlockRange(org_id, first, last, False, where.since, where.until)
        found = await _located(connection, span, where, limit, lookup)
    await _report(org_id, lookup, index)
    _require_progress(found.unreadable, len(found.places))
    following = found.searched + 1
    return found.places, following if following <= high else None


@asynccontextmanager
async def _searching(database: Database, where: EntrySearch) -> AsyncIterator[Connection]:
    """Yield a connection in a transaction; a search takes it from the share of searches."""
    work = asking(Work.SEARCH) if _window_of(where) is not None else nullcontext()
    with work:
        async with database.transaction() as connection:
            await connection.execute(
                f"{IN_ORDER}; SET LOCAL statement_timeout = {SEARCH_S * 1e3:.0f}"
            )
            try:
                yield connection
            except asyncpg.QueryCanceledError as error:
                raise SearchTooLong(
                    f"the database needs more than {SEARCH_S:g} s for this search: narrow the filter "
                    "by since and until, by actor or by subject"
                ) from error


def _lookup(
    connection: Connection, where: EntrySearch, index: SearchIndex | None
) -> TagLookup | None:
    tags = TagPair(where.actor_tag, where.subject_tag)
    return TagLookup(connection, index.key, tags) if index is not None and any(tags) else None


async def _report(org_id: int, lookup: TagLookup | None, index: SearchIndex | None) -> None:
    """Report the rows of the index that are missing or wrong."""
    if lookup is not None and index is not None and lookup.damaged:
        await index.report(org_id, list(lookup.damaged))


async def _located(
    connection: Connection,
    span: BlockRange,
    where: EntrySearch,
    limit: int,
    lookup: TagLookup | None,
) -> Located:
    if _window_of(where) is None:
        return await located(connection, span, limit)
    found = await _search(connection, span, where, limit, None, lookup)
    places = [(record.seq, record.anchored_at) for record in found.records]
    return Located(places, found.searched, found.unreadable)


async def _search(
    connection: Connection,
    span: BlockRange,
    where: EntrySearch,
    limit: int,
    page_bytes: int | None,
    lookup: TagLookup | None,
) -> _Found:
    """Return the first matching records of a range, up to a number, and up to bytes of payloads."""
    tags_and_patterns = LeafFilter(where.actor_tag, where.subject_tag, where.patterns)
    records: list[Match] = []
    deadline_s = time.monotonic() + SEARCH_S
    size, searched = 0, _before(span.last if span.descending else span.first, span.descending)
    async for batch in matching.batches(connection, span, tags_and_patterns, limit, lookup):
        damaged = _nearest(batch.unreadable, descending=span.descending)
        edge = None if damaged is None else _edge(damaged, span)
        for record in batch.records:
            if edge is not None and (record.seq <= edge if span.descending else record.seq >= edge):
                break
            records.append(record)
            size += _payload_size(record)
            if len(records) == limit or (page_bytes is not None and size >= page_bytes):
                return _Found(records, record.seq, None)
        if edge is not None:
            return _Found(records, _before(edge, span.descending), damaged)
        searched = batch.searched
        if time.monotonic() > deadline_s:  # the next page goes on here
            break
    return _Found(records, searched, None)


def _payload_size(record: Match) -> int:
    return len(record.payload) if isinstance(record, StoredEntry) else record.payload_size


def _nearest(
    unreadable: Sequence[UnreadableEntries], *, descending: bool
) -> UnreadableEntries | None:
    """Return the range that a search meets first, or None."""
    if not unreadable:
        return None
    if descending:
        return max(unreadable, key=lambda entries: entries.last_seq)
    return min(unreadable, key=lambda entries: entries.first_seq)


def _edge(damaged: UnreadableEntries, span: BlockRange) -> int:
    """Return the first seq of a range in the order of the search."""
    edge = damaged.last_seq if span.descending else damaged.first_seq
    return min(max(edge, span.first), span.last)


def _before(seq: int, descending: bool) -> int:
    return seq + 1 if descending else seq - 1


def _require_progress(damaged: UnreadableEntries | None, found: int) -> None:
    """Raise DamagedTrail for a page that could not show anything before what can't be read."""
    if damaged is not None and not found:
        raise unreadable(damaged)


def _window_of(where: EntrySearch) -> int | None:
    if where.actor_tag or where.subject_tag:
        return TAG_WINDOW
    return SCAN_WINDOW if where.patterns else None


def _window(low: int, high: int, size: int | None, *, descending: bool) -> tuple[int, int]:
    if size is None:
        return low, high
    return (max(low, high - size + 1), high) if descending else (low, min(high, low + size - 1))


async def _bounds(
    connection: Connection, org_id: int, where: EntrySearch, floor: int
) -> tuple[int, int]:
    """Return the range of seqs that can match: anchored_at never decreases along a trail."""
    row = await connection.fetchrow(HEAD, org_id)
    newest = -1 if row is None else row[0]
    low, high = floor, newest
    if where.since is not None:
        low = await _first_at(connection, org_id, where.since, floor, newest)
    if where.until is not None:
        high = await _first_at(connection, org_id, where.until, floor, newest) - 1
    return low, high


async def _first_at(
    connection: Connection, org_id: int, moment: datetime, floor: int, newest: int
) -> int:
    """Return the first seq from ``floor`` on anchored at or after a moment, by bisection."""
    low, high = floor, newest + 1
    while low < high:
        middle = (low + high) // 2
        row = await connection.fetchrow(BLOCK_AT, org_id, middle)
        if row is not None and row[0] < moment:
            low = max(middle, row[2]) + 1
        else:
            high = middle if row is None else max(low, min(middle, row[1]))
    return low
