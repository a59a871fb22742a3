"""Pages of entries by filter.

Actor and subject are found by their index, which is searched stretch by stretch
(migrations/0001_ledger.sql), newest or oldest first. The other fields are in the
leaf only: canonical JSON, in which the bytes ``"event_type":"login"`` can't occur
inside a string (its quotes would be escaped), so a byte search is exact. Such a
scan is limited to a window of seqs per page; the cursor continues from there. All
reads see every committed entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.chain import StoredEntry
from ledger.storage.database import Connection, Database
from ledger.storage.entries.columns import ENTRY_COLUMNS, PAGE_BYTES
from ledger.storage.entries.heads import HEAD

SCAN_WINDOW: Final = 100_000
"""Number of seqs that one page of a filter without actor or subject scans."""
STRETCH_BITS: Final = 14
TAG_WINDOW: Final = 2_048 << STRETCH_BITS
"""Number of seqs, in whole stretches, that one page of a search by actor or subject covers."""


class EntrySearch(NamedTuple):
    """A filter: tags (0: any), byte patterns of the leaf, a time range."""

    actor_tag: int
    subject_tag: int
    patterns: Sequence[bytes]
    since: datetime | None
    until: datetime | None


class Page(NamedTuple):
    """Entries in order, and the seq at which the next page starts (None at the end)."""

    entries: list[StoredEntry]
    next_seq: int | None


# Forces the order of the index: a planner with too little information about a busy actor
# (a generic plan, old statistics) would collect all its entries and sort them.
IN_ORDER: Final = "SET LOCAL enable_sort = off"
TIME_AT: Final = "SELECT anchored_at FROM entries WHERE org_id = $1 AND seq = $2 LIMIT 1"


def page_query(where: EntrySearch, *, descending: bool) -> tuple[str, list[object]]:
    """Return SQL and the arguments after ($1 org_id, $2 lower seq, $3 upper seq, $4 limit)."""
    order = "DESC" if descending else "ASC"
    source, arguments = _matching(where, ENTRY_COLUMNS, descending=descending)
    # The sizes of payloads are known without reading them, so a page of large payloads
    # ends before they are in memory. The last column counts the matching rows.
    query = f"""
SELECT {ENTRY_COLUMNS}, found FROM (
    SELECT *, count(*) OVER () AS found,
        sum(octet_length(payload)) OVER (ORDER BY seq {order}) - octet_length(payload) AS bytes
    FROM ({source}) AS page
) AS sized WHERE bytes < {PAGE_BYTES} ORDER BY seq {order}"""
    return query, arguments


def _matching(where: EntrySearch, columns: str, *, descending: bool) -> tuple[str, list[object]]:
    """Return SQL for these columns of the matching rows, in order, and page_query's arguments."""
    conditions = ["org_id = $1", "seq >= $2", "seq <= $3"]
    arguments: list[object] = []

    def add(condition: str, value: object) -> None:
        arguments.append(value)
        conditions.append(condition.replace("?", f"${len(arguments) + 4}"))

    if where.actor_tag:
        add("actor_tag = ?", where.actor_tag)
        conditions.append("actor_tag <> 0")
    if where.subject_tag:
        add("subject_tag = ?", where.subject_tag)
        conditions.append("subject_tag <> 0")
    if where.since is not None:
        add("anchored_at >= ?", where.since)
    if where.until is not None:
        add("anchored_at < ?", where.until)
    for pattern in where.patterns:
        add("position(?::bytea in leaf) > 0", pattern)
    order = "DESC" if descending else "ASC"
    source = f"""
SELECT {columns} FROM entries WHERE {" AND ".join(conditions)} ORDER BY seq {order} LIMIT $4"""
    if where.actor_tag or where.subject_tag:
        source = _by_stretch(source, descending=descending)
    return source, arguments


def _by_stretch(source: str, *, descending: bool) -> str:
    """Return SQL for the same rows, which searches one stretch of the index after the other.

    LATERAL forces a nested loop, which keeps the order of its outer side: LIMIT
    ends it at the stretch that fills the page.
    """
    bounds = f"$3::bigint >> {STRETCH_BITS}, $2::bigint >> {STRETCH_BITS}, -1::bigint"
    if not descending:
        bounds = f"$2::bigint >> {STRETCH_BITS}, $3::bigint >> {STRETCH_BITS}"
    found = source.replace("WHERE", f"WHERE (seq >> {STRETCH_BITS}) = stretch AND", 1)
    return f"""
SELECT found.* FROM generate_series({bounds}) AS stretch
CROSS JOIN LATERAL ({found}) AS found LIMIT $4"""


async def page(
    database: Database,
    org_id: int,
    where: EntrySearch,
    *,
    from_seq: int | None,
    descending: bool,
    limit: int,
    floor: int = 0,
) -> Page:
    """Return one page from ``from_seq`` on (None: from the start), with no seq below ``floor``."""
    async with database.transaction() as connection:
        await connection.execute(IN_ORDER)
        low, high = await _bounds(connection, org_id, where, floor)
        if from_seq is not None:
            low, high = (low, min(high, from_seq)) if descending else (max(low, from_seq), high)
        window = _window_of(where)
        first, last = _window(low, high, window, descending=descending)
        if first > last:
            return Page([], None)
        query, arguments = page_query(where, descending=descending)
        rows = await connection.fetch(query, org_id, first, last, limit, *arguments)
    entries = [StoredEntry(*row[:-1]) for row in rows]
    if entries and (rows[-1][-1] == limit or rows[-1][-1] > len(rows)):
        edge = entries[-1].seq
    elif (first, last) == (low, high):
        return Page(entries, None)
    else:
        edge = first if descending else last
    following = edge - 1 if descending else edge + 1
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
) -> tuple[list[tuple[int, datetime]], int | None]:
    """Return seq and time of matching entries from ``from_seq`` to ``to_seq``, oldest first.

    The second value is the seq to continue from, None at the end. Seqs below
    ``floor`` are not searched.
    """
    async with database.transaction() as connection:
        await connection.execute(IN_ORDER)
        low, high = await _bounds(connection, org_id, where, floor)
        high = min(high, to_seq)
        first, last = _window(max(low, from_seq), high, _window_of(where), descending=False)
        if first > last:
            return [], None
        query, arguments = _matching(where, "seq, anchored_at", descending=False)
        rows = await connection.fetch(query, org_id, first, last, limit, *arguments)
    found = [(row[0], row[1]) for row in rows]
    following = found[-1][0] + 1 if len(found) == limit else last + 1
    return found, following if following <= high else None


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
        row = await connection.fetchrow(TIME_AT, org_id, middle)
        if row is not None and row[0] < moment:
            low = middle + 1
        else:
            high = middle
    return low
