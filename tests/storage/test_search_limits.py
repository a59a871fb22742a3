"""A search ends in time: a page with what was found, or an error that says what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from ledger.core.org import OrgFacts
from ledger.storage.database import Database as Pool
from ledger.storage.entries import search
from ledger.storage.entries.search import EntrySearch, SearchTooLong
from tests.support.appending import Process
from tests.support.clusters import Database

NOMATCH = EntrySearch(0, 0, [b'"event_type":"nomatch",'], None, None)


@pytest.fixture
async def pool(shared_database: Database) -> AsyncIterator[Pool]:
    opened = await Pool.open(shared_database.server_url, size=2)
    yield opened
    await opened.close()


async def test_a_statement_that_takes_too_long_is_cancelled(
    pool: Pool,
    shared_database: Database,
    first_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await first_process.append(org, b"x")
    monkeypatch.setattr(search, "SEARCH_S", 0.05)
    blocking = await asyncpg.connect(shared_database.superuser_url)
    try:
        async with blocking.transaction():
            await blocking.execute("LOCK TABLE heads IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(SearchTooLong, match="narrow the filter by since and until"):
                await search.page(pool, org.id, NOMATCH, from_seq=None, descending=True, limit=1)
    finally:
        await blocking.close()
    monkeypatch.undo()
    page = await search.page(pool, org.id, NOMATCH, from_seq=None, descending=True, limit=1)
    assert page.entries == []
    assert (pool.turns.held, pool.turns.waiting) == (0, 0)


@pytest.mark.parametrize("descending", [True, False])
async def test_a_page_that_takes_too_long_ends_and_the_next_goes_on(
    pool: Pool,
    first_process: Process,
    org: OrgFacts,
    descending: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(4):
        await first_process.append(org, *(b"%d" % number for _ in range(300)))
    monkeypatch.setattr(search, "SEARCH_S", 0)  # without a timeout of statements
    everything = NOMATCH._replace(patterns=[b'"seq":'])
    from_seq, seqs = None, list[int]()
    while True:
        page = await search.page(
            pool, org.id, everything, from_seq=from_seq, descending=descending, limit=100
        )
        seqs += [entry.seq for entry in page.entries]
        if page.next_seq is None:
            break
        from_seq = page.next_seq
    assert seqs == sorted(range(1_200), reverse=descending)
