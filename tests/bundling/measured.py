"""Builds a bundle in a process of its own: the order on stdin, its time and memory on stdout."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from ledger.core.bundling import BundleBuilder, BundlePlan, by_range, covering
from ledger.core.org import OrgFacts
from ledger.core.reading.trail import TrailReader
from ledger.core.sealing.sealer import Sealer
from ledger.evidence.format import Request
from ledger.storage.database import Database

KIB = 1024


class BuildOrder(msgspec.Struct):
    """The order: bundle entries 0 to ``count - 1`` of an org into a file."""

    url: str
    org: OrgFacts
    master_key: bytes
    count: int
    path: str


class BuildOutcome(msgspec.Struct):
    """The bundle's seconds, and the process's peak memory before and after it, in bytes."""

    seconds: float
    before: int
    after: int
    size: int


def peak() -> int:
    """The peak memory of this process, in bytes.

    getrusage is not used: its peak starts with the parent's memory.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * KIB


async def build(order: BuildOrder) -> BuildOutcome:
    """Carry out the order."""
    database = await Database.open(order.url, size=2)
    try:
        sealer = Sealer(database, order.master_key)
        trail = TrailReader(database)
        builder = BundleBuilder(database, trail, sealer, at_once=1)
        before, started = peak(), time.perf_counter()
        last = order.count - 1
        selection = await by_range(
            database, trail, order.org.id, from_seq=0, to_seq=last, limit=order.count
        )
        signed = await covering(database, order.org, last, anchored=True)
        request = Request(from_seq=0, to_seq=last)
        contents = BundlePlan(order.org, request, selection, signed, None)
        size = 0
        with Path(order.path).open("wb") as file, builder.place(order.org.id) as place:
            async for piece in builder.stream(contents, place):
                size += file.write(piece)
    finally:
        await database.close()
    return BuildOutcome(time.perf_counter() - started, before, peak(), size)


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=BuildOrder)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(build(order))))


if __name__ == "__main__":
    main()
