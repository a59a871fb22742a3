"""The row on pages of a search by actor: through the search index, against SQL over raw rows.

One trail has its entries spread over many actors; in the other nine of ten are of one actor. Pages
begin at random entries, newest first. The baseline is the query of before, over an index of tags.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import quantiles
from typing import Final, NamedTuple

import uvloop

from bench import events, rows, tenants
from bench.figures import Figure, in_turns, ratio
from bench.scope import Scope
from bench.stage import Scratch
from bench.tenants import Tenant
from bench.trails import DISTINCT_EVENTS, FinishedTrail
from ledger.blocks.postings import STRETCH_BITS
from ledger.chain import Draft
from ledger.core.indexing.builder import IndexBuilder
from ledger.entry import search_tag
from ledger.storage.database import Database
from ledger.storage.entries import search
from ledger.storage.entries.indexing.lookup import SearchIndex
from ledger.storage.entries.search import EntrySearch
from ledger.storage.indexing import IndexerConnection

ENTRIES: Final = 1_000_000
LEAST_ENTRIES: Final = 20_000
PAGES: Final = 400
P99: Final = 98
BUSY: Final = "clerk-busy"
INDEX_KEY: Final = bytes(range(32))


class SearchedTrail(NamedTuple):
    """A trail with its index and the same entries as raw rows, and the actors to search."""

    scratch: Scratch
    org: Tenant
    entries: int
    actors: Sequence[str]


Page = Callable[[Database, SearchedTrail, str, int, int], Awaitable[int]]


def search_pages(scope: Scope) -> Figure:
    """Measure pages of 100 and of 1,000 entries: p99 in ms of all kinds together."""
    trails = {"uniform": _trail(scope, 0.0), "busy": _trail(scope, 0.9)}
    extra: dict[str, float] = {}

    def turn(page: Page, side: str) -> float:
        taken: list[float] = []
        for name, trail in trails.items():
            for limit in (100, 1_000):
                some = uvloop.run(_latencies(trail, page, limit, scope.whole(PAGES, least=20)))
                extra[f"{side}_{name}_{limit}"] = round(quantiles(some, n=100)[P99], 3)
                taken += some
        return quantiles(taken, n=100)[P99]

    ours, theirs = in_turns(
        lambda: turn(_indexed, "index"), lambda: turn(_raw, "rows"), scope.runs(3)
    )
    for trail in trails.values():
        scope.stage.drop(trail.scratch)
    return ratio("ms", ours, theirs, extra)


def _trail(scope: Scope, busy: float) -> SearchedTrail:
    """Write a trail with its index; a share ``busy`` of the entries is of one actor."""
    scratch = scope.stage.database()
    (org,) = tenants.create(scratch)
    rows.create(scope.stage, scratch)
    count = scope.sized(ENTRIES, least=LEAST_ENTRIES)
    FinishedTrail(scratch, org, _drafts(busy)).build(count, raw=True)
    uvloop.run(_build(scratch))
    rows.vacuum(scratch)
    actors = [BUSY] if busy else [events.actor(number) for number in range(events.ACTORS)]
    return SearchedTrail(scratch, org, count, actors)


def _drafts(busy: float) -> list[Draft]:
    rng = random.Random(1)
    drafts = [events.draft(number) for number in range(DISTINCT_EVENTS)]
    for draft in drafts:
        if rng.random() < busy:
            draft.actor, draft.actor_tag = BUSY, search_tag(BUSY)
    return drafts


async def _build(scratch: Scratch) -> None:
    async with IndexerConnection.open(scratch.server_url) as connection:
        builder = IndexBuilder(connection, INDEX_KEY)
        while await builder.round():
            pass


async def _latencies(trail: SearchedTrail, page: Page, limit: int, count: int) -> list[float]:
    """Return the time of each page in ms."""
    rng = random.Random(limit)
    database = await Database.open(trail.scratch.server_url, size=1)
    taken: list[float] = []
    try:
        for number in range(count):
            actor = trail.actors[number % len(trail.actors)]
            from_seq = rng.randrange(trail.entries)
            started = time.perf_counter()
            await page(database, trail, actor, from_seq, limit)
            taken.append((time.perf_counter() - started) * 1_000)
    finally:
        await database.close()
    return taken


async def _indexed(
    database: Database, trail: SearchedTrail, actor: str, from_seq: int, limit: int
) -> int:
    pattern = f'"actor":"{actor}",'.encode()
    where = EntrySearch(search_tag(actor), 0, [pattern], None, None)
    page = await search.page(
        database, trail.org.org_id, where, from_seq=from_seq, descending=True, limit=limit,
        index=SearchIndex(INDEX_KEY, _no_damage),
    )  # fmt: skip
    return len(page.entries)


async def _no_damage(_org_id: int, names: Sequence[str]) -> None:
    raise AssertionError(f"the index is damaged: {names}")


async def _raw(
    database: Database, trail: SearchedTrail, actor: str, from_seq: int, limit: int
) -> int:
    """Read a page as before: the stretches from a seq down, by the index of tags."""
    found = 0
    async with database.connection() as connection:
        for stretch in range(from_seq >> STRETCH_BITS, -1, -1):
            found += len(
                await connection.fetch(
                    rows.PAGE, trail.org.org_id, stretch, search_tag(actor), from_seq, limit - found
                )
            )
            if found >= limit:
                break
    return found
