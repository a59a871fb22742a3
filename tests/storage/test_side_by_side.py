"""Payloads that lie side by side in a block are fetched together, and are those of their entries."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from ledger.blocks.layout import FRAME_BYTES
from ledger.storage.entries.search import page
from ledger.storage.entries.searching import block_rows
from ledger.storage.entries.searching.block_rows import Slice
from tests.support import clusters
from tests.support.search_index import IndexedTrail, by, draft, indexed_trail, people
from tests.support.trails import ORG_ID


@pytest.fixture
async def sealed_trail(database: clusters.Database) -> AsyncIterator[IndexedTrail]:
    """A trail of payloads that do not compress, as sealed ones, then of large and of small ones."""
    rng = random.Random(7)
    async with indexed_trail(database) as one:
        payloads = [rng.randbytes(rng.choice((1, 300, 500))) for _ in range(600)]
        payloads += [rng.randbytes(size) for size in (FRAME_BYTES, FRAME_BYTES + 1, 0, 9)]
        await one.append([draft("a", f"p{n % 9}", payload=made) for n, made in enumerate(payloads)])
        await one.append(people(300))
        yield one


async def test_neighbours_are_fetched_in_one_slice(
    sealed_trail: IndexedTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    slices = block_rows.slices

    async def counted(connection: Any, org_id: int, column: Any, wanted: Sequence[Slice]) -> Any:
        asked.append(len(wanted))
        return await slices(connection, org_id, column, wanted)

    monkeypatch.setattr(block_rows, "slices", counted)
    written = sealed_trail.entries
    for subject in (None, "p3"):
        chosen = [one for one in written if subject is None or b'"subject":"p3"' in one.leaf]
        for descending in (True, False):
            found = await page(
                sealed_trail.pool,
                ORG_ID,
                by(subject=subject),
                from_seq=None,
                descending=descending,
                limit=2_000,
            )
            assert found.entries == (chosen[::-1] if descending else chosen)
            if subject is None:
                assert sum(asked) <= 12  # of 600 payloads: one for each block and large payload
            asked.clear()
