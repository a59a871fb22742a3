"""The signer's progress: waiting for it, and measuring its lag behind the trails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import asyncpg

from bench.stage import Scratch, StageFailed

POLL_INTERVAL_S: Final = 0.01
SETTLE_S: Final = 600.0
"""Longest wait for the signer, in seconds."""
_BEHIND: Final = """
SELECT coalesce(sum(h.seq + 1 - coalesce(t.size, 0)), 0)::bigint
FROM heads h LEFT JOIN trees t USING (org_id)"""
_UNANCHORED: Final = """
SELECT count(*) FROM anchor_leaves
WHERE idx >= coalesce((SELECT size FROM trees WHERE org_id = 0), 0)"""
_LENGTHS: Final = """
SELECT h.seq + 1, coalesce(t.size, 0)
FROM unnest($1::bigint[]) WITH ORDINALITY AS w (org_id, place)
JOIN heads h USING (org_id) LEFT JOIN trees t USING (org_id) ORDER BY w.place"""


def settle(scratch: Scratch, *, anchored: bool = False) -> None:
    """Wait until a signed checkpoint covers every entry; with ``anchored``, also an anchor."""
    asyncio.run(_settle(scratch, [_BEHIND, _UNANCHORED] if anchored else [_BEHIND]))


async def _settle(scratch: Scratch, queries: Sequence[str]) -> None:
    connection = await asyncpg.connect(scratch.server_url)
    try:
        deadline = time.monotonic() + SETTLE_S
        for query in queries:
            while await connection.fetchval(query):
                if time.monotonic() > deadline:
                    raise StageFailed("the signer does not follow the trails")
                await asyncio.sleep(POLL_INTERVAL_S)
    finally:
        await connection.close()


def settled(scratch: Scratch, measure: Callable[[], float]) -> Callable[[], float]:
    """Return the measurement followed by a wait: the signer must not work in the next turn."""

    def measured() -> float:
        figure = measure()
        settle(scratch)
        return figure

    return measured


class PollingDelay:
    """Polls the trails' lengths and signed sizes during its block, and until all is signed.

    ``lags`` holds the seconds from the poll that found a trail longer to the first
    poll that found a checkpoint of that length; both see committed data only.
    """

    def __init__(self, scratch: Scratch, org_ids: Sequence[int]) -> None:
        self._url = scratch.server_url
        self._org_ids = org_ids
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._poll()), daemon=True)
        self._waiting: list[list[tuple[int, float]]] = [[] for _ in org_ids]
        self.lags: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(SETTLE_S):
            raise StageFailed("the trails could not be polled")
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    async def _poll(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            query = await connection.prepare(_LENGTHS)
            lengths = [row[0] for row in await query.fetch(self._org_ids)]
            self._ready.set()
            deadline = None
            while any(self._waiting) or not self._ended.is_set():
                # Entries committed after the end of the block are not waited for.
                if self._ended.is_set():
                    deadline = deadline or time.monotonic() + SETTLE_S
                    if time.monotonic() > deadline:
                        return
                self._record(lengths, await query.fetch(self._org_ids))
                await asyncio.sleep(POLL_INTERVAL_S)
        finally:
            await connection.close()

    def _record(self, lengths: list[int], rows: Sequence[Any]) -> None:
        now = time.perf_counter()
        for place, (length, signed) in enumerate(rows):
            waiting = self._waiting[place]
            if length > lengths[place] and not self._ended.is_set():
                lengths[place] = length
                waiting.append((length, now))
            while waiting and waiting[0][0] <= signed:
                self.lags.append(now - waiting.pop(0)[1])
