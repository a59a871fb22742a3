"""Many processes on one trail make no fork, gap or duplicate, and each receipt is right."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from ledger.core.org import OrgFacts
from ledger.core.verification.run import TrailRange, verify_trail
from ledger.storage.database import Database as Pool
from tests.support.appending import new_org, sound_trail
from tests.support.clusters import Database
from tests.support.rings import slow
from tests.support.trails import RING
from tests.torture import appender

LIMIT_S = 240.0
ROOT = Path(__file__).parents[2]


async def race(
    database: Database, processes: int, events: int, at_once: int, orgs: list[OrgFacts]
) -> list[dict[str, list[int]]]:
    """Start the processes, release them at the same moment, and return the seqs that each got."""
    arguments = [str(events), str(at_once), *(f"{org.id}:{org.slug}" for org in orgs)]
    async with asyncio.timeout(LIMIT_S):
        running = await asyncio.gather(
            *(start(database.server_url, f"p{number}", arguments) for number in range(processes))
        )
        try:
            for each in running:
                assert each.stdin is not None
                each.stdin.write(b"go\n")
            outputs = await asyncio.gather(*(each.communicate() for each in running))
        finally:
            for each in running:
                if each.returncode is None:
                    each.kill()
    assert [each.returncode for each in running] == [0] * processes
    return [json.loads(output) for output, _ in outputs]


async def start(url: str, name: str, arguments: list[str]) -> Process:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", appender.__name__, url, name, *arguments,
        stdin=PIPE, stdout=PIPE, cwd=ROOT, limit=2**24,
    )  # fmt: skip
    assert started.stdout is not None
    assert await started.stdout.readline() == b"ready\n"
    return started


def check_receipts(
    payloads: list[bytes], org: OrgFacts, receipts: list[dict[str, list[int]]]
) -> None:
    assert sum(len(answers[str(org.id)]) for answers in receipts) == len(payloads)
    for number, answers in enumerate(receipts):
        for event, seq in enumerate(answers[str(org.id)]):
            assert payloads[seq] == b"p%d-%d" % (number, event)


@pytest.mark.parametrize("events", [5_000, slow(25_000)])
async def test_four_processes_append_to_one_org(database: Database, events: int) -> None:
    pool = await Pool.open(database.server_url, size=2)
    try:
        org = await new_org(pool)
    finally:
        await pool.close()
    receipts = await race(database, 4, events, 400, [org])
    payloads = await sound_trail(database, org)
    assert len(payloads) == 4 * events
    check_receipts(payloads, org, receipts)
    result = await verify_trail(database.server_url, TrailRange(org.id, org.slug), RING)
    assert (result.valid, result.total_entries) == (True, 4 * events)


async def test_eight_processes_race_for_the_first_entry(database: Database) -> None:
    pool = await Pool.open(database.server_url, size=2)
    try:
        orgs = [await new_org(pool) for _ in range(25)]
    finally:
        await pool.close()
    receipts = await race(database, 8, 3, 3, orgs)
    for org in orgs:
        payloads = await sound_trail(database, org)
        assert len(payloads) == 8 * 3
        check_receipts(payloads, org, receipts)
