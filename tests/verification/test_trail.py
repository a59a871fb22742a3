"""Whole trails in PostgreSQL, verified by processes: tampering, ranges, concurrency, aborts."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.chain import StoredEntry, extend
from ledger.core.verification.run import Progress, TrailRange, verify_trail
from ledger.core.verification.work.crew import VerificationSetup
from ledger.core.verification.work.faults import CHECKS_OF_ENTRIES, RangeRefused, VerificationFailed
from ledger.errors import DatabaseUnavailable
from ledger.keys import SigningKey, SigningKeyring
from tests.support import blocks
from tests.support.clusters import blocking
from tests.support.trails import NOW_US, ORG, ORG_ID, RING, draft
from tests.support.waiting import PATIENCE_S
from tests.verification.database import COUNT, HEAD, PLACES, ROWS, Superuser
from tests.verification.streams import blame

LAST = COUNT - 1


def one_bit(value: Any, column: str) -> Any:
    """The value with one bit changed."""
    if column == "anchored_at":
        return value + timedelta(microseconds=1 - 2 * (value.microsecond & 1))
    if isinstance(value, int):
        return value ^ 1 << 20
    middle = len(value) // 2
    return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]


async def test_an_untouched_trail(superuser: Superuser) -> None:
    seen: list[Progress] = []
    result = await superuser.verify(watch=seen.append)
    assert result.valid
    assert (result.total_entries, result.verified_entries, result.last_seq) == (COUNT, COUNT, LAST)
    assert {getattr(result.checks, name) for name in (*CHECKS_OF_ENTRIES, "head")} == {True}
    assert (seen[0].processed, seen[-1].processed, seen[-1].total) == (0, COUNT, COUNT)


MAIN_KIND = {
    "anchored_at": {"column_mismatch"},
    "actor_tag": {"column_mismatch"},
    "subject_tag": {"column_mismatch"},
    "entry_hash": {"hash_mismatch", "signature_invalid"},
    "signature": {"signature_invalid"},
    "leaf": {"hash_mismatch"},
    "payload": {"payload_mismatch"},
}


@pytest.mark.parametrize("column", MAIN_KIND)
async def test_one_bit_of_a_column(superuser: Superuser, column: str) -> None:
    for seq in PLACES:
        await superuser.edit(seq, **{column: one_bit(getattr(ROWS[seq], column), column)})
    result = await superuser.verify()
    found = blame(result)
    assert set(found) == set(PLACES)
    assert all(kinds >= MAIN_KIND[column] for kinds in found.values())
    if column != "leaf":
        assert all(kinds == MAIN_KIND[column] for kinds in found.values())
    assert (result.valid, result.failed_entries) == (False, len(PLACES))


async def test_one_bit_of_the_link_to_an_entry(superuser: Superuser) -> None:
    """The stored hash of an entry inside a block is the one that the next leaf names."""
    for seq in PLACES[:-1]:
        await blocks.flip_link(superuser.connection, ORG_ID, seq, 17)
    found = blame(await superuser.verify())
    assert set(found) == {seq + 1 for seq in PLACES[:-1]}
    assert all("hash_mismatch" in kinds for kinds in found.values())


async def test_the_same_entries_in_other_blocks(superuser: Superuser) -> None:
    """Every border is a fault where none should be; beside a wrong entry, the entry has the fault."""
    ends = [seq for seq in range(1_000, 1_700) if seq % 7 == 0 or seq in (1_023, 1_279, 1_535)]
    await blocks.recut(superuser.connection, ORG_ID, 1_000, 1_700, *ends)
    begun = {seq + 1: {"block_border"} for seq in ends if (seq + 1) % 256}
    result = await superuser.verify()
    assert blame(result) == begun
    assert (result.valid, result.failed_entries) == (False, 0)
    await superuser.edit(1_301, payload=b"x")
    found = blame(await superuser.verify())
    assert found.pop(1_301) == {"payload_mismatch"}
    assert found == {seq: kinds for seq, kinds in begun.items() if not 1_295 <= seq <= 1_303}


async def test_one_bit_of_a_seq_of_a_block(superuser: Superuser) -> None:
    for seq, column in ((300, "first_seq"), (2_049, "first_seq"), (1_024, "last_seq")):
        await blocks.raw_bit(superuser.connection, ORG_ID, seq, column, 35)
    result = await superuser.verify()
    assert not result.valid
    assert {256, 1_024, 2_048} <= set(blame(result))


async def test_one_bit_of_seq(superuser: Superuser) -> None:
    for seq in PLACES:
        await blocks.move(superuser.connection, ORG_ID, seq, seq ^ 1 << 40)
    found = blame(await superuser.verify())
    moved = {seq ^ 1 << 40: {"seq_mismatch"} for seq in PLACES}
    moved[1 << 40] = {"seq_mismatch", "beyond_head"}
    # 1023 and 1024 are one gap.
    assert found == {seq: {"missing"} for seq in PLACES if seq != 1_024} | moved


async def test_one_bit_of_org_id(superuser: Superuser) -> None:
    for seq in PLACES:
        await superuser.edit(seq, org_id=ORG_ID ^ 1)
    found = blame(await superuser.verify())
    kinds = {seq: {"missing"} for seq in PLACES if seq != 1_024}
    assert found == {**kinds, LAST: {"truncated"}}
    other = await verify_trail(superuser.database.server_url, TrailRange(ORG_ID ^ 1, "other"), RING)
    assert {"head_missing"} <= blame(other)[LAST]


@pytest.mark.parametrize(("first", "last"), [(0, 0), (400, 420), (1_023, 1_024), (500, 2_500)])
async def test_removed(superuser: Superuser, first: int, last: int) -> None:
    await superuser.remove(first, last)
    result = await superuser.verify()
    assert blame(result) == {first: {"missing"}}
    assert (result.fault_count, result.failed_entries) == (1, last - first + 1)


@pytest.mark.parametrize("left", [0, 1, 1_024, 3_072, LAST])
async def test_tail_cut(superuser: Superuser, left: int) -> None:
    await blocks.cut(superuser.connection, ORG_ID, left)
    assert blame(await superuser.verify()) == {left: {"truncated" if left else "wiped"}}


@pytest.mark.parametrize(("a", "b"), [(0, LAST), (1_023, 1_024), (7, 8)])
async def test_swapped(superuser: Superuser, a: int, b: int) -> None:
    await blocks.swap(superuser.connection, ORG_ID, a, b)
    assert blame(await superuser.verify()) == {a: {"seq_mismatch"}, b: {"seq_mismatch"}}


async def test_duplicated_and_inserted(superuser: Superuser) -> None:
    late = timedelta(hours=1)
    copies = [ROWS[seq]._replace(anchored_at=ROWS[seq].anchored_at + late) for seq in PLACES]
    forged = [
        StoredEntry(ORG_ID, seq, ROWS[0].anchored_at - late, 0, 0, bytes(32), bytes(32), b"{}", b"")
        for seq in (17, 2_047, 3_072)
    ]
    await superuser.replace_rows([*ROWS, *copies, *forged])
    found = blame(await superuser.verify())
    assert {seq for seq, kinds in found.items() if "duplicate_seq" in kinds} == set(PLACES)
    assert {seq for seq, kinds in found.items() if "inserted" in kinds} == {17, 2_047, 3_072}
    assert len(found) == len(PLACES) + 3


async def test_head_row_edited(superuser: Superuser) -> None:
    for edit, seq in (
        ("seq = seq | (1::bigint << 60)", LAST | 1 << 60),
        ("seq = 35", 35),
        ("entry_hash = sha256(entry_hash)", LAST),
        ("anchored_at = anchored_at + interval '1 microsecond'", LAST),
        ("anchored_at = 'infinity'", LAST),
    ):
        await superuser.replace_rows()
        await superuser.execute(f"UPDATE heads SET {edit}")
        assert blame(await superuser.verify()) == {seq: {"head_mismatch"}}, edit
    await superuser.execute("DELETE FROM heads")
    assert blame(await superuser.verify()) == {LAST: {"head_missing"}}


async def test_a_huge_gap_is_skipped(superuser: Superuser) -> None:
    await superuser.execute("UPDATE heads SET seq = 1::bigint << 60, entry_hash = sha256('x')")
    far = (1 << 59) + 5
    await blocks.move(superuser.connection, ORG_ID, LAST, far)
    found = blame(await superuser.verify())
    assert found == {LAST: {"missing"}, far: {"seq_mismatch"}, far + 1: {"truncated"}}


async def test_values_too_large_to_read_are_faults(superuser: Superuser) -> None:
    for seq, column in ((1_023, "payload"), (2_000, "leaf")):
        await blocks.edit_large(superuser.connection, ORG_ID, seq, column, 65 << 20)
    assert blame(await superuser.verify()) == {1_023: {"unreadable"}, 2_000: {"unreadable"}}


async def test_times_that_no_date_holds_are_faults(superuser: Superuser) -> None:
    async with blocks.wild_partition(superuser.connection):
        for seq, at in ((0, "infinity"), (1_024, "-infinity"), (LAST, "294276-01-01")):
            await blocks.set_wild_time(superuser.connection, ORG_ID, seq, at)
        result = await superuser.verify()
    assert blame(result) == {seq: {"column_mismatch"} for seq in (0, 1_024, LAST)}


async def test_keys(superuser: Superuser) -> None:
    wrong = await superuser.verify(SigningKeyring.from_secret(b"w" * 32, "k1"))
    assert (wrong.fault_count, len(wrong.errors)) == (COUNT, 1_000)
    assert [fault.seq for fault in wrong.errors] == list(range(1_000))
    assert (wrong.checks.signatures, wrong.checks.hashes, wrong.checks.links) == (False, True, True)
    second = SigningKey("k2", b"2" * 32)
    more, head = extend(ORG_ID, ORG, HEAD, [draft(b"after")] * 900, NOW_US, second)
    await superuser.replace_rows([*ROWS, *more], head)
    assert (await superuser.verify(RING.rotated(second))).valid
    assert set(blame(await superuser.verify())) == set(range(COUNT, COUNT + 900))


async def test_ranges(superuser: Superuser) -> None:
    await superuser.edit(1_200, signature=bytes(32))
    result = await superuser.verify(from_seq=100, to_seq=1_199)
    assert (result.valid, result.first_seq, result.last_seq) == (True, 100, 1_199)
    assert (result.total_entries, result.checks.head) == (1_100, True)
    result = await superuser.verify(from_seq=1_200)
    assert (set(blame(result)), result.checks.head) == ({1_200}, True)
    assert (await superuser.verify(from_seq=1_201)).valid
    assert (await superuser.verify(to_seq=1_199)).valid
    for first, last in ((COUNT + 50, COUNT + 60), (None, COUNT)):
        with pytest.raises(RangeRefused, match=f"ends at {LAST}"):
            await superuser.verify(from_seq=first, to_seq=last)
    with pytest.raises(RangeRefused, match=f"begins at {COUNT}"):
        await superuser.verify(from_seq=COUNT)
    with pytest.raises(VerificationFailed):
        await superuser.verify(from_seq=9, to_seq=8)
    with pytest.raises(VerificationFailed):
        await superuser.verify(from_seq=-1)


async def test_a_range_holds_the_link_to_the_entry_before_it(superuser: Superuser) -> None:
    more, _head = extend(ORG_ID, ORG, HEAD._replace(seq=99), [draft(b"x")], NOW_US, RING.active)
    await superuser.remove(100)
    await blocks.write(superuser.connection, more)
    assert blame(await superuser.verify(from_seq=100, to_seq=100)) == {100: {"link_broken"}}


async def test_appends_during_a_verification_are_not_part_of_it(superuser: Superuser) -> None:
    more, head = extend(ORG_ID, ORG, HEAD, [draft(b"later")] * 2_000, NOW_US, RING.active)
    appended: list[asyncio.Task[None]] = []

    async def append() -> None:
        async with superuser.connection.transaction():
            await blocks.write(superuser.connection, more)
            await superuser.connection.execute(
                "UPDATE heads SET seq = $1, entry_hash = $2", head.seq, head.entry_hash
            )

    def watch(_progress: Progress) -> None:
        if not appended:
            appended.append(asyncio.ensure_future(append()))

    result = await superuser.verify(watch=watch)
    await appended[0]
    assert (result.valid, result.total_entries) == (True, COUNT)
    assert (await superuser.verify()).total_entries == COUNT + 2_000


def workers() -> list[int]:
    """The process ids of this process's verification workers."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    command = b"ledger.core.verification.worker"
    return [pid for pid in map(int, children) if command in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_a_killed_worker_is_an_error_and_no_verdict(superuser: Superuser) -> None:
    def kill(_progress: Progress) -> None:
        for pid in workers():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(VerificationFailed, match="worker ended"):
        await superuser.verify(watch=kill)
    assert workers() == []


async def test_lost_connections_are_an_error_and_no_verdict(superuser: Superuser) -> None:
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE usename = 'quire_server' AND datname = '{superuser.database.name}'"
    )

    async def cut() -> None:
        connection = await asyncpg.connect(superuser.database.superuser_url)
        await connection.execute(query)
        await connection.close()

    def watch(progress: Progress) -> None:
        if progress.processed:
            blocking(cut())

    with pytest.raises((VerificationFailed, DatabaseUnavailable)):
        await superuser.verify(watch=watch)
    assert workers() == []


async def test_cancelling_ends_the_processes(superuser: Superuser) -> None:
    started = asyncio.Event()

    def watch(progress: Progress) -> None:
        if progress.processed:
            started.set()

    verifying = asyncio.create_task(superuser.verify(watch=watch))
    await started.wait()
    assert workers()
    verifying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await verifying
    assert workers() == []


ORPHANING = """
import asyncio
from ledger.core.verification.work.crew import WORKERS
from ledger.workers import WorkerProcess
async def main():
    print((await WorkerProcess.start(WORKERS)).pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_worker_ends_with_the_process_that_started_it() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHANING, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    worker = int(await parent.stdout.readline())
    assert b"verification.worker" in _command(worker)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(PATIENCE_S):
        while _command(worker):  # noqa: ASYNC110 - another process can only be polled
            await asyncio.sleep(0.05)


def test_secrets_are_in_no_argument_and_no_representation() -> None:
    order = VerificationSetup(
        "postgresql://u:password@h/d", "1", 1, ORG, [("k1", b"secret" * 8)], "k1"
    )
    assert "password" not in repr(order)
    assert "secret" not in repr(order)


async def test_an_unreachable_database_is_an_error(superuser: Superuser) -> None:
    url = superuser.database.server_url.replace(superuser.database.name, "nowhere")
    with pytest.raises(DatabaseUnavailable):
        await verify_trail(url, TrailRange(ORG_ID, ORG), RING)
