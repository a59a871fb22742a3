"""Waiting requests become the next batch: order, sharing, bounds, and cancelled callers."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from ledger.core.org import OrgFacts
from ledger.core.sequencer import SequencerLimits
from ledger.core.sequencer.lane import SHARED_BYTES, SHARED_EVENTS
from ledger.errors import OutcomeUnknown, QueueFull, ShuttingDown
from tests.support.appending import (
    PATIENCE_S,
    Process,
    held_head,
    new_org,
    process,
    sound_trail,
    until,
)
from tests.support.clusters import Database


def payloads(prefix: str, count: int) -> list[bytes]:
    return [f"{prefix}-{number}".encode() for number in range(count)]


async def in_flight(first_process: Process) -> None:
    await until(lambda: first_process.sequencer._in_flight, "a batch in flight")


async def test_requests_during_a_commit_become_one_batch(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    async with held_head(shared_database, org):
        first = first_process.append_in_task(org, b"first")
        await in_flight(first_process)
        later = [first_process.append_in_task(org, payload) for payload in payloads("later", 200)]
        await asyncio.sleep(0)
    answers = await asyncio.gather(first, *later)
    assert [report.entries for report in first_process.reports] == [1, 200]
    assert [answer.entries[0].seq for answer in answers] == list(range(201))
    assert await sound_trail(shared_database, org) == [b"first", *payloads("later", 200)]


async def test_one_transaction_takes_the_batches_of_many_orgs(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    others = [await new_org(first_process.database) for _ in range(40)]
    waiting = [first_process.append_in_task(other, b"a", b"b") for other in reversed(others)]
    answers = await asyncio.gather(*waiting)
    assert [report.orgs for report in first_process.reports] == [40]
    assert first_process.reports[0].entries == 80
    assert [answer.head.seq for answer in answers] == [1] * 40
    for other in others:
        assert await sound_trail(shared_database, other) == [b"a", b"b"]


async def test_each_receipt_is_of_the_stored_row(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    appended = await asyncio.gather(
        *(first_process.append(org, b"x%d" % n, b"y%d" % n) for n in range(5))
    )
    receipts = [receipt for answer in appended for receipt in answer.receipts()]
    assert [receipt.seq for receipt in receipts] == list(range(10))
    assert receipts[0].previous_hash == b""
    for before, after in pairwise(receipts):
        assert after.previous_hash == before.entry_hash
    assert appended[-1].head.entry_hash == receipts[-1].entry_hash


async def test_a_batch_is_bounded_in_events_and_takes_the_rest_next(
    shared_database: Database,
) -> None:
    limits = SequencerLimits(batch_events=10, committers=1)
    async with process(shared_database.server_url, limits=limits) as one:
        org = await new_org(one.database)
        waiting = [one.append_in_task(org, *payloads(f"r{n}", 4)) for n in range(5)]
        big = one.append_in_task(org, *payloads("big", 25))  # a request is never split
        await asyncio.gather(*waiting, big)
        assert [report.entries for report in one.reports] == [8, 8, 4, 25]
        expected = [p for n in range(5) for p in payloads(f"r{n}", 4)] + payloads("big", 25)
        assert await sound_trail(shared_database, org) == expected


async def test_much_of_one_org_is_written_apart_from_the_requests_of_others(
    shared_database: Database,
) -> None:
    async with process(shared_database.server_url, limits=SequencerLimits(committers=1)) as one:
        small = [await new_org(one.database) for _ in range(4)]
        large = await new_org(one.database)
        waiting = [one.append_in_task(org, b"a") for org in small[:2]]
        waiting.append(one.append_in_task(large, *payloads("big", SHARED_EVENTS + 1)))
        waiting += [one.append_in_task(org, b"b") for org in small[2:]]
        await asyncio.gather(*waiting)
        assert [(report.orgs, report.entries) for report in one.reports] == [
            (2, 2),
            (1, SHARED_EVENTS + 1),
            (2, 2),
        ]
        one.reports.clear()
        await asyncio.gather(
            one.append(large, *payloads("fits", SHARED_EVENTS)), one.append(small[0], b"c")
        )
        assert [report.orgs for report in one.reports] == [2]
        one.reports.clear()
        heavy = one.append_in_task(large, bytes(SHARED_BYTES))
        await asyncio.gather(heavy, one.append(small[0], b"d"))
        assert [report.orgs for report in one.reports] == [1, 1]


async def test_a_full_queue_refuses_its_org_and_no_other(shared_database: Database) -> None:
    async with process(shared_database.server_url, limits=SequencerLimits(org_events=10)) as one:
        org, other = await new_org(one.database), await new_org(one.database)
        async with held_head(shared_database, org):
            first = one.append_in_task(org, b"first")
            await in_flight(one)
            waiting = one.append_in_task(org, *payloads("w", 10))
            await asyncio.sleep(0)
            with pytest.raises(QueueFull) as refused:
                await one.append(org, b"too many")
            assert not refused.value.everyone
            assert refused.value.retry_after >= 1
            await one.append(other, b"free")
        await asyncio.gather(first, waiting)
        await one.append(org, b"room again")
        assert await sound_trail(shared_database, org) == [
            b"first",
            *payloads("w", 10),
            b"room again",
        ]


async def test_too_many_bytes_in_all_refuse_everyone(shared_database: Database) -> None:
    limits = SequencerLimits(total_bytes=100_000)
    async with process(shared_database.server_url, limits=limits) as one:
        org, other = await new_org(one.database), await new_org(one.database)
        async with held_head(shared_database, org):
            first = one.append_in_task(org, bytes(60_000))
            await in_flight(one)
            with pytest.raises(QueueFull) as refused:
                await one.append(other, bytes(60_000))
            assert refused.value.everyone
        await first
        await one.append(other, bytes(60_000))
        assert one.sequencer.waiting_bytes == 0


async def test_a_cancelled_caller_cancels_no_append(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    async with held_head(shared_database, org):
        tasks = [first_process.append_in_task(org, b"in flight")]
        await in_flight(first_process)
        tasks += [
            first_process.append_in_task(org, b"queued"),
            first_process.append_in_task(org, b"stays"),
        ]
        await asyncio.sleep(0)
        for task in tasks[:2]:
            task.cancel()
        gone = await asyncio.gather(*tasks[:2], return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in gone)
    assert (await tasks[2]).entries[0].seq == 2
    assert await sound_trail(shared_database, org) == [b"in flight", b"queued", b"stays"]
    assert first_process.sequencer.waiting_bytes == 0


async def test_closing_drains_the_queue(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    waiting = [first_process.append_in_task(org, payload) for payload in payloads("w", 50)]
    await asyncio.sleep(0)
    await first_process.sequencer.close(PATIENCE_S)
    answers = await asyncio.gather(*waiting)
    assert [answer.entries[0].seq for answer in answers] == list(range(50))
    with pytest.raises(ShuttingDown):
        await first_process.append(org, b"too late")
    assert len(await sound_trail(shared_database, org)) == 50


async def test_closing_past_its_limit_distinguishes_not_written_from_unknown(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    async with held_head(shared_database, org):
        flying = first_process.append_in_task(org, b"in flight")
        await in_flight(first_process)
        queued = first_process.append_in_task(org, b"queued")
        await asyncio.sleep(0)
        await first_process.sequencer.close(0.05)
        assert flying.done() or await asyncio.wait([flying], timeout=PATIENCE_S)
        with pytest.raises(OutcomeUnknown):
            await flying
        with pytest.raises(ShuttingDown):
            await queued
    assert await sound_trail(shared_database, org) == []


async def test_lanes_of_idle_orgs_are_dropped(
    shared_database: Database,
    first_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ledger.core.sequencer.sequencer.MAX_IDLE_LANES", 3)
    orgs = [org, *[await new_org(first_process.database) for _ in range(7)]]
    for each in orgs * 2:
        await first_process.append(each, b"x")
    assert len(first_process.sequencer._lanes) <= 3
    for each in orgs:
        assert len(await sound_trail(shared_database, each)) == 2
