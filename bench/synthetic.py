"""A long trail over several months, for search, written by several processes without a server.

Each process makes and packs a share of the entries. The trail is chained but for the first entry
of each share, whose process does not know the entry before it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import msgspec
import uvloop

from bench import events, rows
from bench.stage import KEYRING, Scratch, Stage, StageFailed
from bench.tenants import Tenant
from bench.trails import BATCH_ROWS, DISTINCT_EVENTS, set_head
from ledger.chain import ChainHead, StoredEntry, extend
from ledger.entry import HASH_BYTES, from_datetime
from ledger.storage.database import connect
from ledger.storage.entries import months, writing

DAYS: Final = 120
"""The trail's age: its entries are in five months, so in five partitions."""
PACKERS: Final = 2
_CHUNK_BATCHES: Final = 20


class Share(msgspec.Struct):
    """A share of a trail: entries ``first`` to ``last``, in batches of a thousand.

    Entry n is anchored at ``start_us`` + n * ``step_us``, rounded down to its batch.
    """

    database_url: str
    org_id: int
    org: str
    first: int
    last: int
    start_us: int
    step_us: float


class WrittenShare(msgspec.Struct):
    """The head of a trail after a share of it."""

    seq: int
    entry_hash: bytes
    anchored_us: int


def fill(stage: Stage, scratch: Scratch, org: Tenant, count: int) -> None:
    """Write a trail of ``count`` entries with its head row."""
    start = (datetime.now(UTC) - timedelta(days=DAYS)).replace(microsecond=0)
    asyncio.run(_create_months(scratch, start))
    head = _write(stage, _shares(scratch, org, count, start))[-1]
    asyncio.run(_set_head(scratch, org, ChainHead(head.seq, head.entry_hash, head.anchored_us)))
    rows.vacuum(scratch)


def _shares(scratch: Scratch, org: Tenant, count: int, start: datetime) -> list[Share]:
    """Cut the trail at whole batches."""
    size = -(-count // PACKERS // BATCH_ROWS) * BATCH_ROWS
    step_us = timedelta(days=DAYS) / timedelta(microseconds=1) / count
    return [
        Share(
            scratch.server_url,
            org.org_id,
            org.slug,
            first,
            min(first + size, count) - 1,
            from_datetime(start),
            step_us,
        )
        for first in range(0, count, size)
    ]


def _write(stage: Stage, shares: list[Share]) -> list[WrittenShare]:
    """Write the shares, each in a process of its own, all at once. Raises StageFailed."""
    environ = {**os.environ, "BENCH_DIRECTORY": str(stage.directory)}  # for the reaper
    with ExitStack() as stack:
        packers = []
        for share in shares:
            packer = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "bench.synthetic"],
                    env=environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            )
            stack.callback(packer.kill)
            packers.append(packer)
            assert packer.stdin is not None
            packer.stdin.write(msgspec.json.encode(share))
            packer.stdin.close()
        return [_outcome(packer) for packer in packers]


def _outcome(packer: subprocess.Popen[bytes]) -> WrittenShare:
    assert packer.stdout is not None
    output = packer.stdout.read()
    if packer.wait():
        raise StageFailed("a share of the trail could not be written")
    return msgspec.json.decode(output, type=WrittenShare)


async def _create_months(scratch: Scratch, start: datetime) -> None:
    connection = await asyncpg.connect(scratch.owner_url)
    try:
        for day in range(DAYS + 1):
            await months.create(connection, start + timedelta(days=day))
    finally:
        await connection.close()


async def _set_head(scratch: Scratch, org: Tenant, head: ChainHead) -> None:
    connection = await connect(scratch.server_url)
    try:
        await set_head(connection, org, head)
    finally:
        await connection.close()


class _Maker:
    """Makes the entries of a share, batch by batch."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._drafts = [events.draft(number) for number in range(DISTINCT_EVENTS)]
        # The link of the first entry names a hash that no entry has.
        self.head = ChainHead(share.first - 1, bytes(HASH_BYTES) if share.first else b"", 0)

    def batch(self, first: int) -> list[StoredEntry]:
        """Make the next batch, which begins at this seq."""
        share = self._share
        drafts = [
            self._drafts[number % DISTINCT_EVENTS]
            for number in range(first, min(first + BATCH_ROWS, share.last + 1))
        ]
        at_us = share.start_us + int(first * share.step_us)
        made, self.head = extend(share.org_id, share.org, self.head, drafts, at_us, KEYRING.active)
        return made


async def _write_share(share: Share) -> WrittenShare:
    maker = _Maker(share)
    connection = await connect(share.database_url)
    try:
        firsts = list(range(share.first, share.last + 1, BATCH_ROWS))
        for start in range(0, len(firsts), _CHUNK_BATCHES):
            chunk = firsts[start : start + _CHUNK_BATCHES]
            await writing.add(connection, [entry for at in chunk for entry in maker.batch(at)])
    finally:
        await connection.close()
    return WrittenShare(*maker.head)


def main() -> None:
    """Write the share that is described on stdin."""
    share = msgspec.json.decode(sys.stdin.buffer.read(), type=Share)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_write_share(share))))


if __name__ == "__main__":
    main()
