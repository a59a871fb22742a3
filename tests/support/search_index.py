"""A trail in a database with its search index: written in blocks, indexed, searched, tampered with."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from ledger.blocks.block import short_tag
from ledger.blocks.postings import STRETCH_ENTRIES, IndexRow
from ledger.chain import EMPTY_HEAD, ChainHead, Draft, StoredEntry, extend
from ledger.core.indexing.builder import IndexBuilder
from ledger.entry import from_datetime, payload_digest, search_tag, to_datetime
from ledger.storage.database import Database
from ledger.storage.entries import search, writing
from ledger.storage.entries.indexing.lookup import SearchIndex
from ledger.storage.entries.search import EntrySearch
from ledger.storage.indexing import IndexerConnection
from ledger.storage.partitions import create_for
from tests.support import blocks, clusters
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID

INDEX_KEY = bytes(range(32))
TABLE = "tag_runs"
SECOND_US = 1_000_000
COLUMNS = "org_id, level, stretch, bucket, mac, ended_at, postings"


def draft(actor: str | None, subject: str | None, kind: str = "x", payload: bytes = b"{}") -> Draft:
    """A draft of an event about these people."""
    tags = search_tag(actor), search_tag(subject)
    digest = payload_digest(payload, None)
    return Draft(None, actor, None, kind, None, None, digest, subject, None, *tags, payload)


def by(
    actor: str | None = None,
    subject: str | None = None,
    kind: str | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
) -> EntrySearch:
    """A search by the fields that are not None."""
    fields = {"actor": actor, "subject": subject, "event_type": kind}
    patterns = [f'"{name}":"{value}",'.encode() for name, value in fields.items() if value]
    times = [None if us is None else to_datetime(us) for us in (since_us, until_us)]
    return EntrySearch(search_tag(actor), search_tag(subject), patterns, *times)


def matches(entry: StoredEntry, where: EntrySearch) -> bool:
    """Whether an entry matches, by its leaf and time alone."""
    return (
        all(pattern in entry.leaf for pattern in where.patterns)
        and (where.since is None or entry.anchored_at >= where.since)
        and (where.until is None or entry.anchored_at < where.until)
    )


class EndedEarly(Exception):
    """The builder's process ended after a write."""


class _Ending(IndexerConnection):
    """A connection that is lost after some writes: no signal reaches a process so exactly."""

    def __init__(self, opened: IndexerConnection, writes: int) -> None:
        super().__init__(opened._connection)
        self._left = writes

    async def add(self, rows: Sequence[IndexRow], ended_at: datetime) -> None:
        if not self._left:
            raise EndedEarly
        self._left -= 1
        await super().add(rows, ended_at)


class MadeTrail(NamedTuple):
    """The entries and the head of a trail, and the rows of its index."""

    entries: list[StoredEntry]
    head: ChainHead
    rows: list[tuple[Any, ...]]


class IndexedTrail:
    """A trail, its entries with short tags, and what searches reported of its index."""

    def __init__(
        self, database: clusters.Database, pool: Database, superuser: asyncpg.Connection[Any]
    ) -> None:
        self.database = database
        self.pool = pool
        self.superuser = superuser
        self.head: ChainHead = EMPTY_HEAD
        self.entries: list[StoredEntry] = []
        self.reported: list[str] = []

    async def append(self, drafts: Sequence[Draft], *, commit: int | None = None) -> None:
        """Append events in commits of ``commit`` entries (None: of 1 to 700), as appends do."""
        rng = random.Random(len(self.entries))
        at = 0
        while at < len(drafts):
            size = commit or rng.choice((1, 3, 250, 256, 700))
            now_us = NOW_US + len(self.entries) * SECOND_US
            some = drafts[at : at + size]
            rows, self.head = extend(ORG_ID, ORG, self.head, some, now_us, KEY)
            await self._write(rows)
            at += size

    async def _write(self, rows: Sequence[StoredEntry]) -> None:
        await writing.add(self.superuser, rows)
        await self.set_head(self.head)
        self.entries.extend(
            row._replace(actor_tag=short_tag(row.actor_tag), subject_tag=short_tag(row.subject_tag))
            for row in rows
        )

    async def set_head(self, head: ChainHead) -> None:
        """Set the head row."""
        await self.superuser.execute(
            "INSERT INTO heads (org_id, seq, entry_hash, anchored_at) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (org_id) DO UPDATE SET seq = $2, entry_hash = $3, anchored_at = $4",
            ORG_ID, head.seq, head.entry_hash, to_datetime(head.anchored_us),
        )  # fmt: skip

    async def cut(self, first: int) -> None:
        """Remove all entries from a seq on, with the head: the next ones take their places."""
        await blocks.cut(self.superuser, ORG_ID, first)
        del self.entries[first:]
        last = self.entries[-1]
        self.head = ChainHead(last.seq, last.entry_hash, from_datetime(last.anchored_at))
        await self.set_head(self.head)

    async def drop(self, below: int) -> int:
        """Drop the blocks below a seq as retention does with a month; return the first live seq."""
        rows = await blocks.rows_between(self.superuser, ORG_ID, 0, below - 1)
        live_from = rows[-1].last_seq + 1
        dropped = self.entries[:live_from]
        await blocks.remove(self.superuser, ORG_ID, 0, live_from - 1)
        count = "entries"
        await self.superuser.execute(
            f"INSERT INTO departed (org_id, first_seq, last_seq, {count}, first_at, last_at, last_hash,"
            " month, target, record_seq, mac) "
            "VALUES ($1, 0, $2, $6, $3, $4, $5, '2026-01-01', '', 0, '')",
            ORG_ID, dropped[-1].seq, dropped[0].anchored_at, dropped[-1].anchored_at,
            dropped[-1].entry_hash, live_from,
        )  # fmt: skip
        return live_from

    async def build(self, *, writes: int | None = None, alone: bool = True) -> None:
        """Build the index to the end of the trail, by a builder that starts anew.

        ``writes``: raise EndedEarly after so many. ``alone``: it must get the lock.
        """
        async with IndexerConnection.open(self.database.server_url) as opened:
            assert await opened.lead() or not alone
            connection = opened if writes is None else _Ending(opened, writes)
            builder = IndexBuilder(connection, INDEX_KEY)
            while await builder.round():
                pass

    async def find(
        self,
        where: EntrySearch,
        *,
        descending: bool = False,
        limit: int = 1_000,
        index: bool = True,
        floor: int = 0,
    ) -> list[int]:
        """The seqs of all matching entries, page by page."""
        found: list[int] = []
        at: int | None = None
        while True:
            page = await search.page(
                self.pool, ORG_ID, where, from_seq=at, descending=descending, limit=limit,
                floor=floor, index=SearchIndex(INDEX_KEY, self._report) if index else None,
            )  # fmt: skip
            assert len(page.entries) <= limit
            found += [entry.seq for entry in page.entries]
            at = page.next_seq
            if at is None:
                return found

    async def _report(self, org_id: int, rows: Sequence[str]) -> None:
        assert org_id == ORG_ID
        self.reported += rows

    def expected(self, where: EntrySearch, floor: int = 0) -> list[int]:
        """The seqs of all matching entries, by a look at every entry."""
        return [e.seq for e in self.entries if e.seq >= floor and matches(e, where)]

    async def rows(self) -> list[tuple[Any, ...]]:
        """All rows of the index."""
        rows = await self.superuser.fetch(f"SELECT {COLUMNS} FROM {TABLE} ORDER BY {COLUMNS}")
        return [tuple(row) for row in rows]

    async def made(self) -> MadeTrail:
        """The trail as it is, for another object of this class."""
        return MadeTrail(self.entries, self.head, await self.rows())

    def know(self, made: MadeTrail) -> None:
        """Take a trail that is in the database already."""
        self.entries, self.head = list(made.entries), made.head

    async def put_back(self, made: MadeTrail) -> None:
        """Give the index the rows that it had."""
        async with self.superuser.transaction():
            await self.superuser.execute("SET LOCAL session_replication_role = replica")
            await self.superuser.execute(f"DELETE FROM {TABLE}")
            await self.superuser.copy_records_to_table(
                TABLE, records=made.rows, columns=COLUMNS.split(", ")
            )

    async def tamper(self, statement: str) -> None:
        """Change rows of the index as the owner can, without triggers; it must change some."""
        async with self.superuser.transaction():
            await self.superuser.execute("SET LOCAL session_replication_role = replica")
            tag = await self.superuser.execute(statement)
        assert not tag.endswith(" 0"), "nothing was changed"


async def built_rows(database: clusters.Database) -> list[tuple[Any, ...]]:
    """Build the index of all trails of a database; return its rows."""
    async with IndexerConnection.open(database.server_url) as connection:
        builder = IndexBuilder(connection, INDEX_KEY)
        while await builder.round():
            pass
    superuser = await asyncpg.connect(database.superuser_url)
    try:
        rows = await superuser.fetch(f"SELECT {COLUMNS} FROM {TABLE} ORDER BY {COLUMNS}")
    finally:
        await superuser.close()
    return [tuple(row) for row in rows]


@asynccontextmanager
async def indexed_trail(database: clusters.Database) -> AsyncIterator[IndexedTrail]:
    """An empty trail in a database."""
    pool = await Database.open(database.server_url, size=2)
    superuser = await asyncpg.connect(database.superuser_url)
    try:
        await create_for(pool, [to_datetime(NOW_US)])
        yield IndexedTrail(database, pool, superuser)
    finally:
        await superuser.close()
        await pool.close()


def people(count: int, *, seed: int = 1, crowd: int = 300, busy: float = 0.0) -> list[Draft]:
    """Events about people of a crowd; a share ``busy`` of them by one actor."""
    rng = random.Random(seed)
    return [
        draft(
            "busy" if rng.random() < busy else f"a{rng.randrange(crowd)}",
            f"s{rng.randrange(crowd)}" if rng.random() < 0.7 else None,
            "rare" if rng.random() < 0.01 else "common",
        )
        for _ in range(count)
    ]


BORDERS = (1_023, 1_024, 1_025, STRETCH_ENTRIES - 1, STRETCH_ENTRIES, STRETCH_ENTRIES + 1)
"""Lengths of trails around the first run and the first stretch."""
