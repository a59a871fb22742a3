"""Idempotency keys of requests and single events, within a batch, across batches and processes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ledger.core.org import OrgFacts
from ledger.core.sequencer import Appended, KeyDigest
from ledger.core.sequencer.request import AnswerLost
from ledger.errors import IdempotencyMismatch
from ledger.storage import partitions
from tests.support import blocks
from tests.support.appending import (
    Process,
    held_head,
    new_org,
    process,
    sound_trail,
    superuser,
    system_clock_us,
    until,
)
from tests.support.clusters import Database


def key(name: str, body: str = "body") -> KeyDigest:
    return KeyDigest(name.encode().ljust(16, b"."), body.encode().ljust(16, b"."))


def seqs(appended: Appended) -> list[int]:
    return [receipt.seq for receipt in appended.receipts()]


async def test_the_same_key_and_body_get_the_first_answer_again(
    shared_database: Database, first_process: Process, second_process: Process, org: OrgFacts
) -> None:
    first = await first_process.append(org, b"a", b"b", idempotency=key("k"))
    assert not first.replayed
    await second_process.append(org, b"later")
    for by in (first_process, second_process):
        again = await by.append(org, b"a", b"b", idempotency=key("k"))
        assert again.replayed
        assert again.receipts() == first.receipts()
    assert await sound_trail(shared_database, org) == [b"a", b"b", b"later"]


async def test_the_same_key_with_another_body_is_refused_alone(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    await first_process.append(org, b"a", idempotency=key("k"))
    other = first_process.append_in_task(org, b"c", idempotency=key("k", "other body"))
    beside = first_process.append_in_task(org, b"b")
    with pytest.raises(IdempotencyMismatch):
        await other
    await beside
    assert await sound_trail(shared_database, org) == [b"a", b"b"]


async def test_a_key_twice_in_one_batch_counts_once(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    async with held_head(shared_database, org):
        tasks = [first_process.append_in_task(org, b"first")]
        await until(lambda: first_process.sequencer._in_flight, "a batch in flight")
        tasks += [
            first_process.append_in_task(org, b"a", b"b", idempotency=key("k")) for _ in range(5)
        ]
        mismatch = first_process.append_in_task(org, b"c", idempotency=key("k", "other body"))
        await asyncio.sleep(0)
    answers = await asyncio.gather(*tasks)
    with pytest.raises(IdempotencyMismatch):
        await mismatch
    assert [seqs(answer) for answer in answers[1:]] == [[1, 2]] * 5
    assert [answer.replayed for answer in answers[1:]] == [False, True, True, True, True]
    assert await sound_trail(shared_database, org) == [b"first", b"a", b"b"]


async def test_keys_of_one_org_have_no_effect_in_another(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    other = await new_org(first_process.database)
    await first_process.append(org, b"a", idempotency=key("k"))
    assert not (await first_process.append(other, b"b", idempotency=key("k", "other"))).replayed


async def test_events_under_unique_keys_are_written_once_and_answered_in_order(
    shared_database: Database, first_process: Process, second_process: Process, org: OrgFacts
) -> None:
    first = await first_process.append(org, b"a", b"b", b"plain", unique={0: key("a"), 1: key("b")})
    assert seqs(first) == [0, 1, 2]
    mixed = await second_process.append(
        org, b"new", b"b", b"new", b"a", unique={0: key("n"), 1: key("b"), 2: key("n"), 3: key("a")}
    )
    assert seqs(mixed) == [3, 1, 3, 0]
    assert not mixed.replayed
    old = await first_process.append(org, b"a", b"new", unique={0: key("a"), 1: key("n")})
    assert (seqs(old), old.replayed) == ([0, 3], True)
    assert old.receipts()[0] == first.receipts()[0]
    assert await sound_trail(shared_database, org) == [b"a", b"b", b"plain", b"new"]


async def test_a_request_key_over_unique_events_gives_all_of_the_first_answer(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    await first_process.append(org, b"a", unique={0: key("a")})
    for replayed in (False, True):
        answer = await first_process.append(
            org, b"b", b"a", b"c", unique={1: key("a")}, idempotency=key("request")
        )
        assert (seqs(answer), answer.replayed) == ([1, 0, 2], replayed)
    assert await sound_trail(shared_database, org) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("stored_before", [True, False])
async def test_a_unique_key_with_another_body_names_its_event_and_leaves_nothing(
    shared_database: Database, first_process: Process, org: OrgFacts, stored_before: bool
) -> None:
    keys = {0: key("new"), 1: key("a"), 2: key("a", "other body")}
    if stored_before:
        await first_process.append(org, b"a", unique={0: key("a")})
    with pytest.raises(IdempotencyMismatch) as refused:
        await first_process.append(org, b"new", b"a", b"A", unique=keys)
    assert refused.value.index == 2
    again = await first_process.append(org, b"new", unique={0: key("new")})
    assert not again.replayed


@pytest.mark.parametrize("kind", ["request", "event"])
async def test_the_same_key_from_two_processes_at_once_gives_one_entry(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    kind: str,
) -> None:
    option: dict[str, object] = (
        {"idempotency": key("k")} if kind == "request" else {"unique": {0: key("k")}}
    )
    answers = await asyncio.gather(
        *(
            by.append(org, b"once", **option)
            for _ in range(10)
            for by in (first_process, second_process)
        )
    )
    assert len({answer.receipts()[0] for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert await sound_trail(shared_database, org) == [b"once"]


async def test_keys_are_dropped_with_their_day_and_not_before(database: Database) -> None:
    ten_days_us = 10 * 86_400 * 1_000_000
    now = datetime.now(UTC)
    async with (
        process(database.server_url, clock=lambda: system_clock_us() - ten_days_us) as past,
        process(database.server_url) as present,
    ):
        org = await new_org(past.database)
        await past.append(org, b"old", idempotency=key("old"))
        await present.append(org, b"young", idempotency=key("young"))
        await partitions.retire(database.retention_url, now, idempotency_days=11)
        assert (await present.append(org, b"old", idempotency=key("old"))).replayed
        await partitions.retire(database.retention_url, now, idempotency_days=7)
        assert not (await present.append(org, b"old", idempotency=key("old"))).replayed
        assert (await present.append(org, b"young", idempotency=key("young"))).replayed
        await partitions.retire(
            database.retention_url, now + timedelta(days=400), idempotency_days=7
        )
        assert (await present.append(org, b"young", idempotency=key("young"))).replayed, (
            "a wrong clock must not drop the keys of today"
        )
        await present.append(org, b"nor seal the month of today")


async def test_a_key_whose_entry_was_removed_is_refused_alone(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    other = await new_org(first_process.database)
    await first_process.append(org, b"a", idempotency=key("k"))
    await first_process.append(org, b"b")
    async with superuser(shared_database) as connection:
        await blocks.remove(connection, org.id, 0)
    lost = first_process.append_in_task(org, b"a", idempotency=key("k"))
    beside = [first_process.append_in_task(org, b"c"), first_process.append_in_task(other, b"d")]
    with pytest.raises(AnswerLost, match="seq 0"):
        await lost
    assert [seqs(answer) for answer in await asyncio.gather(*beside)] == [[2], [0]]
