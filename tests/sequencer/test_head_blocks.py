"""The check before each batch over blocks: it reads the newest block's last frames, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ledger.core.org import OrgFacts
from ledger.core.sequencer import KeyDigest
from ledger.core.sequencer.request import AnswerLost
from ledger.errors import OrgFrozen
from ledger.storage.entries.picked import receipts
from tests.support.appending import (
    Process,
    new_org,
    process,
    request,
    sound_trail,
    superuser,
)
from tests.support.blocks import column, newest_seq, point_head_at, raw_bit, recut
from tests.support.clusters import Database
from tests.support.tampering import Tampering, change, change_newest

LONG = b"x" * 200_000
OLDER_BIT = 4
"""A bit of the first frame of a column."""
DAMAGE = {
    "the last leaf": change_newest(raw_bit, "leaves", -20),
    "the last payload": change_newest(raw_bit, "payloads", -20),
    "leaves are cut": change_newest(column, leaves=lambda leaves: leaves[:-1]),
    "leaves go on": change_newest(column, leaves=lambda leaves: leaves + b"x"),
    "leaves go on for long": change_newest(column, leaves=lambda leaves: leaves + LONG),
    "payloads are cut": change_newest(column, payloads=b""),
    "payloads go on for long": change_newest(column, payloads=lambda payloads: payloads + LONG),
    "ends": change_newest(raw_bit, "ends", 11),
    "ends of another version": change_newest(raw_bit, "ends", 0),
    "no ends": change_newest(column, ends=b""),
    "the last tag": change_newest(raw_bit, "tags", -1),
    "no tags": change_newest(column, tags=b""),
    "last_hash": change_newest(raw_bit, "last_hash", 5),
    "no last_hash": change_newest(column, last_hash=b""),
    "a long last_hash": change_newest(column, last_hash=lambda last: last + b"x" * 3_000),
    "first_seq": change_newest(column, first_seq=lambda first: first + 1),
}


async def damage(shared_database: Database, org: OrgFacts, damaging: Tampering) -> None:
    async with superuser(shared_database) as connection:
        await damaging(connection, org.id)


async def refused_alone(shared_database: Database, by: Process, org: OrgFacts) -> str:
    """Check that an append is refused in the transaction that commits another org's append."""
    other = await new_org(by.database)
    refused, taken = by.append_in_task(org, b"refused"), by.append_in_task(other, b"taken")
    with pytest.raises(OrgFrozen) as error:
        await refused
    await taken
    assert by.reports[-1].orgs == 2
    assert await sound_trail(shared_database, other) == [b"taken"]
    return error.value.reason


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "never seen"])
@pytest.mark.parametrize("damaging", DAMAGE.values(), ids=DAMAGE.keys())
async def test_a_damaged_newest_block_freezes_its_org_and_no_other(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    damaging: Tampering,
    seen: bool,
) -> None:
    await first_process.append(org, *(b"payload %d" % number * 9 for number in range(100)))
    await damage(shared_database, org, damaging)
    by = first_process if seen else second_process
    await refused_alone(shared_database, by, org)
    thawed = await by.sequencer.append(request(org, b"thawed", thaw=True))
    assert thawed.head.seq == 100
    for each in (first_process, second_process, first_process):
        await each.append(org, b"after")
    async with superuser(shared_database) as connection:
        assert await newest_seq(connection, org.id) == 103


async def test_older_frames_of_the_newest_block_are_not_read(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    await first_process.append(org, *(b"payload %d" % number * 9 for number in range(100)))
    for name in ("leaves", "payloads"):
        await damage(shared_database, org, change_newest(raw_bit, name, OLDER_BIT))
    await first_process.append(org, b"taken")


async def test_a_head_inside_a_block_is_refused(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    await first_process.append(org, *(b"%d" % number for number in range(5)))
    async with superuser(shared_database) as connection:
        await point_head_at(connection, org.id, 3)
    async with process(shared_database.server_url) as unaware:
        reason = await refused_alone(shared_database, unaware, org)
    assert "no block ends there" in reason


@pytest.mark.parametrize("size", [70_000, 3_000_000])
async def test_a_large_payload_at_the_head_is_read_whole(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    size: int,
) -> None:
    payloads = [b"small", bytes(range(256)) * (size // 256)]
    await first_process.append(org, *payloads)
    await second_process.append(org, payloads[1])
    await first_process.append(org, payloads[1])
    assert await sound_trail(shared_database, org) == [*payloads, payloads[1], payloads[1]]
    await damage(shared_database, org, change_newest(raw_bit, "payloads", OLDER_BIT))
    assert "can't be read" in await refused_alone(shared_database, first_process, org)


@pytest.mark.parametrize("walked", [100, 1])
async def test_entries_of_another_process_may_be_in_other_blocks_than_it_wrote(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
    walked: int,
) -> None:
    """The entries count, not their blocks, but for the head: that must end one."""
    monkeypatch.setattr("ledger.core.sequencer.heads.check.MAX_WALK_ENTRIES", walked)
    payloads = [b"seen", *(b"%d" % number for number in range(40))]
    await first_process.append(org, payloads[0], payloads[1])
    await second_process.append(org, *payloads[2:])
    async with superuser(shared_database) as connection:
        await recut(connection, org.id, 0, 1, 0)
        await recut(connection, org.id, 2, 40, 7, 8, 30)
    for each in (first_process, second_process):
        await each.append(org, b"after")
        payloads.append(b"after")
    assert await sound_trail(shared_database, org) == payloads


@pytest.mark.parametrize("name", ["leaves", "payloads"])
async def test_a_bad_frame_in_the_entries_of_another_process_freezes_its_org_alone(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    name: str,
) -> None:
    await first_process.append(org, b"seen")
    await second_process.append(org, *(b"payload %d" % number * 9 for number in range(100)))
    await damage(shared_database, org, change_newest(raw_bit, name, OLDER_BIT))
    reason = await refused_alone(shared_database, first_process, org)
    assert reason.startswith("entries 1 to 32 can't be read: ")


def key(name: str) -> KeyDigest:
    return KeyDigest(name.encode().ljust(16, b"."), b"b" * 16)


@pytest.fixture
def nothing_is_read_under_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.core.sequencer.replay.READ_LOCKED_BYTES", 0)


@pytest.mark.usefixtures("nothing_is_read_under_lock")
async def test_a_large_replay_is_answered_after_its_transaction(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    payloads = [b"%d" % number for number in range(300)]
    await first_process.append(org, b"old", unique={0: key("old")})
    first = await first_process.append(org, *payloads, idempotency=key("k"))
    again, mixed, plain = await asyncio.gather(
        first_process.append(org, *payloads, idempotency=key("k")),
        first_process.append(org, b"new", b"old", unique={1: key("old")}),
        first_process.append(org, b"plain"),
    )
    assert again.replayed
    assert again.receipts() == first.receipts()
    assert [receipt.seq for receipt in mixed.receipts()] == [301, 0]
    assert plain.entries[0].seq == 302
    assert await sound_trail(shared_database, org) == [b"old", *payloads, b"new", b"plain"]


@pytest.mark.usefixtures("nothing_is_read_under_lock")
async def test_a_late_answer_that_can_not_be_read_is_refused_alone(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    await first_process.append(org, b"a", idempotency=key("k"))
    await damage(shared_database, org, change_newest(raw_bit, "leaves", OLDER_BIT))
    await first_process.sequencer.append(request(org, b"thawed", thaw=True))
    lost, beside = (
        first_process.append_in_task(org, b"a", idempotency=key("k")),
        first_process.append_in_task(org, b"b"),
    )
    with pytest.raises(AnswerLost, match="seq 0"):
        await lost
    await beside


async def test_an_answer_that_can_not_be_read_is_refused_alone(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    """Neither other appends of its org wait for it, nor those of other orgs."""
    await first_process.append(org, b"a", idempotency=key("k"))
    await first_process.append(org, b"b")
    await damage(shared_database, org, change(raw_bit, 0, "leaves", OLDER_BIT))
    other = await new_org(first_process.database)
    lost = first_process.append_in_task(org, b"a", idempotency=key("k"))
    beside = [first_process.append_in_task(each, b"c") for each in (org, other)]
    with pytest.raises(AnswerLost, match="seq 0"):
        await lost
    assert [(await one).head.seq for one in beside] == [2, 0]
    assert first_process.reports[-1].orgs == 2


async def test_one_transaction_reads_a_bounded_part_of_its_replays(
    shared_database: Database,
    first_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ledger.core.sequencer.replay.READ_LOCKED_BYTES", 10_000)
    other = await new_org(first_process.database)
    payloads = [b"%d" % number for number in range(300)]
    for each in (org, other):
        await first_process.append(each, *payloads, idempotency=key("k"))
    bounds: list[int | None] = []
    original = receipts.read

    async def counted(*arguments: object, **options: object) -> receipts.Written:
        bounds.append(options.get("most_raw_bytes"))  # type: ignore[arg-type]
        return await original(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(receipts, "read", counted)
    answers = await asyncio.gather(
        *(first_process.append(each, *payloads, idempotency=key("k")) for each in (org, other))
    )
    assert [len(answer.receipts()) for answer in answers] == [300, 300]
    assert bounds[0] == 10_000
    assert _never_rises(bounds)


def _never_rises(bounds: Sequence[int | None]) -> bool:
    known = [bound for bound in bounds if bound is not None]
    return known == sorted(known, reverse=True) and known[-1] <= 0
