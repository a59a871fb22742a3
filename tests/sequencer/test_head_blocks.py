"""The check before each batch over blocks: it reads the newest block's last frames, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ledger.blocks.block import Block, pack
from ledger.core.org import OrgFacts
from ledger.core.sequencer import KeyDigest
from ledger.core.sequencer.request import AnswerLost
from ledger.errors import OrgFrozen
from ledger.storage.entries import receipts
from tests.support.appending import (
    Process,
    new_org,
    process,
    request,
    rows_of,
    sound_trail,
    superuser,
)
from tests.support.clusters import Database

NEWEST = "org_id = $1 AND last_seq = (SELECT max(last_seq) FROM entries WHERE org_id = $1)"
BIT = "{0} = set_bit({0}, {1}, 1 - get_bit({0}, {1}))"


def flip(column: str, place: str) -> str:
    return BIT.format(column, f"octet_length({column}) {place}")


DAMAGE = {
    "the last leaf": flip("leaves", "* 8 - 20"),
    "the last payload": flip("payloads", "* 8 - 20"),
    "leaves are cut": "leaves = substring(leaves FROM 1 FOR octet_length(leaves) - 1)",
    "leaves go on": "leaves = leaves || 'x'",
    "leaves go on for long": "leaves = leaves || convert_to(repeat('x', 200000), 'UTF8')",
    "payloads are cut": "payloads = ''",
    "payloads go on for long": "payloads = payloads || convert_to(repeat('x', 200000), 'UTF8')",
    "ends": flip("ends", "* 0 + 3"),
    "ends of another version": flip("ends", "* 0"),
    "no ends": "ends = ''",
    "the last tag": flip("tags", "* 8 - 1"),
    "no tags": "tags = ''",
    "last_hash": flip("last_hash", "* 0 + 5"),
    "no last_hash": "last_hash = ''",
    "a long last_hash": "last_hash = last_hash || convert_to(repeat('x', 3000), 'UTF8')",
    "first_seq": "first_seq = first_seq + 1",
}


async def damage(shared_database: Database, org: OrgFacts, change: str) -> None:
    async with superuser(shared_database) as connection:
        status = await connection.execute(f"UPDATE entries SET {change} WHERE {NEWEST}", org.id)
        assert status == "UPDATE 1"


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
@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
async def test_a_damaged_newest_block_freezes_its_org_and_no_other(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    change: str,
    seen: bool,
) -> None:
    await first_process.append(org, *(b"payload %d" % number * 9 for number in range(100)))
    await damage(shared_database, org, change)
    by = first_process if seen else second_process
    await refused_alone(shared_database, by, org)
    thawed = await by.sequencer.append(request(org, b"thawed", thaw=True))
    assert thawed.head.seq == 100
    for each in (first_process, second_process, first_process):
        await each.append(org, b"after")
    assert (await rows_of(shared_database, org.id))[-1].seq == 103


async def test_older_frames_of_the_newest_block_are_not_read(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    await first_process.append(org, *(b"payload %d" % number * 9 for number in range(100)))
    for column in ("leaves", "payloads"):
        await damage(shared_database, org, flip(column, "* 4"))
    await first_process.append(org, b"taken")


async def test_a_head_inside_a_block_is_refused(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    appended = await first_process.append(org, *(b"%d" % number for number in range(5)))
    async with superuser(shared_database) as connection:
        await connection.execute(
            "UPDATE heads SET seq = 3, entry_hash = $2 WHERE org_id = $1",
            org.id,
            appended.entries[3].entry_hash,
        )
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
    await damage(shared_database, org, flip("payloads", "* 4"))
    assert "can't be read" in await refused_alone(shared_database, first_process, org)


async def recut(shared_database: Database, org: OrgFacts) -> None:
    """Store all entries of an org, of one time, in one block, as a restore cuts them."""
    block = pack(await rows_of(shared_database, org.id))
    async with superuser(shared_database) as connection, connection.transaction():
        await connection.execute("DELETE FROM entries WHERE org_id = $1", org.id)
        await connection.copy_records_to_table("entries", records=[block], columns=Block._fields)


async def test_a_head_that_was_seen_may_stand_inside_a_block_of_a_restore(
    shared_database: Database, org: OrgFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def continued(walked: int) -> None:
        monkeypatch.setattr("ledger.core.sequencer.head_check.MAX_WALK_ENTRIES", walked)
        of_org = await new_org(one.database)
        await one.append(of_org, b"seen")
        await other.append(of_org, b"a", b"b")
        await other.append(of_org, b"c")
        await recut(shared_database, of_org)
        await one.append(of_org, b"d")
        assert await sound_trail(shared_database, of_org) == [b"seen", b"a", b"b", b"c", b"d"]

    moment_us = 1_790_000_000_000_000
    async with (
        process(shared_database.server_url, clock=lambda: moment_us) as one,
        process(shared_database.server_url, clock=lambda: moment_us) as other,
    ):
        await continued(walked=100)
        await continued(walked=1)


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
    await damage(shared_database, org, flip("leaves", "* 4"))
    async with superuser(shared_database) as connection:
        await connection.execute("SELECT 1")
    await first_process.sequencer.append(request(org, b"thawed", thaw=True))
    lost, beside = (
        first_process.append_in_task(org, b"a", idempotency=key("k")),
        first_process.append_in_task(org, b"b"),
    )
    with pytest.raises(AnswerLost, match="seq 0"):
        await lost
    await beside


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
