"""One of several processes that append to the same trails; run by test_processes.

Arguments: database URL, name of this process, events per org, concurrent events, and the
orgs as ``id:slug``. Prints "ready", starts when it reads a line, then prints as JSON the
seqs of its events, by org and in the order of the events.
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import pairwise

from ledger.core.org import OrgFacts
from tests.support.appending import Process, process

BATCH = 5


def print_line(line: str) -> None:
    """Print one line for the test that started this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(url: str, name: str, events: int, at_once: int, orgs: list[OrgFacts]) -> None:
    async with process(url) as mine:
        print_line("ready")
        await asyncio.to_thread(sys.stdin.readline)
        seqs = await asyncio.gather(*(append_all(mine, org, name, events, at_once) for org in orgs))
    print_line(json.dumps({str(org.id): got for org, got in zip(orgs, seqs, strict=True)}))


async def append_all(
    mine: Process, org: OrgFacts, name: str, events: int, at_once: int
) -> list[int]:
    """Append ``events`` events, singly and in requests of five, ``at_once`` at a time."""
    got = [-1] * events
    # Alternately a single event and a request of five; the last request has the rest.
    starts = [number for number in range(events) if number % (BATCH + 1) in (0, 1)]
    pairs = iter(pairwise([*starts, events]))

    async def client() -> None:
        for first, end in pairs:
            payloads = [b"%s-%d" % (name.encode(), number) for number in range(first, end)]
            appended = await mine.append(org, *payloads)
            got[first:end] = [receipt.seq for receipt in appended.receipts()]

    await asyncio.gather(*(client() for _ in range(at_once)))
    return got


if __name__ == "__main__":
    asyncio.run(
        main(
            sys.argv[1],
            sys.argv[2],
            int(sys.argv[3]),
            int(sys.argv[4]),
            [
                OrgFacts(int(number), slug, False, b"")
                for number, slug in (o.split(":") for o in sys.argv[5:])
            ],
        )
    )
