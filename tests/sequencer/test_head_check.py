"""The check before each batch fails closed: tampering freezes the org concerned and no other.

After a thaw every process appends to that org again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ledger.chain import ChainHead, StoredEntry, extend
from ledger.core.org import OrgFacts
from ledger.core.sequencer import HEADS_FILE, AcknowledgedHeads
from ledger.core.sequencer.heads.check import PAGE_BLOCKS
from ledger.entry import decode_leaf, entry_hash, from_datetime
from ledger.errors import OrgFrozen, SigningKeyMissing
from ledger.keys import SigningKey
from ledger.storage import orgs
from tests.support.appending import (
    IDENTITY,
    Process,
    held_head,
    new_org,
    process,
    request,
    rows_of,
    sound_trail,
    superuser,
    until,
)
from tests.support.blocks import (
    Connection,
    cut,
    duplicate,
    edit,
    exchange,
    flip,
    insert,
    point_head_at,
    remove,
    stored_at,
    withdraw,
)
from tests.support.clusters import Database
from tests.support.tampering import Tampering, change, change_newest, statement, steps
from tests.support.trails import draft

HEAD = "UPDATE heads SET {} WHERE org_id = $1"
CUT_TWO = change(cut, 3)
ALL_GONE = change(cut, 0)
BACK_TO_2 = change(point_head_at, 2)
RESET = change(point_head_at, -1)
REMOVED = statement("DELETE FROM heads WHERE org_id = $1")
NUL_IN_A_NAME = rb'{"a\u0000b":1}'
LATER = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)


def head(assignment: str) -> Tampering:
    return statement(HEAD.format(assignment))


async def exchange_for_twin(connection: Connection, org_id: int, seq: int) -> None:
    """Insert a copy of an entry at another time, then remove the entry."""
    entry = await stored_at(connection, org_id, seq)
    await insert(connection, entry._replace(anchored_at=entry.anchored_at + LATER))
    await withdraw(connection, entry)


# Refused by the process that wrote the trail, and by a process that never saw it.
SEEN_BY_ALL = {
    "entry: hash": change_newest(flip, "entry_hash", 77),
    "entry: signature": change_newest(flip, "signature", 255),
    "entry: leaf, first bit": change_newest(flip, "leaf", 0),
    "entry: leaf, some bit": change_newest(flip, "leaf", 403),
    "entry: leaf, NUL in a name": steps(
        change_newest(edit, leaf=NUL_IN_A_NAME, entry_hash=entry_hash(NUL_IN_A_NAME)),
        change_newest(point_head_at),
    ),
    "entry: payload": change_newest(flip, "payload", 3),
    "entry: payload longer": change_newest(edit, payload=lambda payload: payload + b"\0"),
    "entry: actor_tag": change_newest(edit, actor_tag=lambda tag: tag ^ 1),
    "entry: subject_tag": change_newest(edit, subject_tag=lambda tag: tag ^ 1 << 22),
    "entry: anchored_at": change_newest(edit, anchored_at=lambda time: time + MICROSECOND),
    "entry: seq": change_newest(edit, seq=lambda seq: seq ^ 64),
    "entry: org_id": change_newest(edit, org_id=lambda org_id: org_id ^ 1 << 31),
    "entry: removed": change_newest(remove),
    "entry: removed with its twin of another time": change_newest(exchange_for_twin),
    "tail cut": CUT_TWO,
    "all entries removed": ALL_GONE,
    "head: removed": REMOVED,
    "head: reset": RESET,
    "head: forward": head("seq = seq + 1"),
    "head: far forward": head("seq = 1::bigint << 62"),
    "head: back": head("seq = seq - 1"),
    "head: back to an older entry": BACK_TO_2,
    "head: negative": head("seq = -5"),
    "head: empty but for its hash": head("seq = -1"),
    "head: hash": head("entry_hash = set_bit(entry_hash, 200, 1 - get_bit(entry_hash, 200))"),
    "head: no hash": head("entry_hash = ''"),
    "head: time": head("anchored_at = anchored_at + interval '1 microsecond'"),
    "head: time ahead": head("anchored_at = anchored_at + interval '40 years'"),
    "head: time Python can't hold": head("anchored_at = '200000-01-01Z'"),
    "head: time before all time": head("anchored_at = '-infinity'"),
    "head: time without end": head("anchored_at = 'infinity'"),
    "head and entries: time ahead, entry gone": steps(
        change_newest(remove), head("anchored_at = anchored_at + interval '40 years'")
    ),
    "head removed, entries too": steps(REMOVED, ALL_GONE),
}
# Cases in which the entry that was acknowledged last is gone, and another is in its place or none.
LOST = {"entry: seq", "head removed, entries too"}
# Only a process that remembers the trail can refuse these: a complete older state is restored.
SEEN_BY_MEMORY = {
    "rolled back": steps(BACK_TO_2, CUT_TWO),
    "wiped": steps(RESET, ALL_GONE),
}


@pytest.fixture
async def unaware_process(shared_database: Database) -> AsyncIterator[Process]:
    """A process that has never seen any trail."""
    async with process(shared_database.server_url) as running:
        yield running


async def tampered(
    shared_database: Database, first_process: Process, org: OrgFacts, tampering: Tampering
) -> None:
    for number in range(5):
        await first_process.append(org, b"entry %d" % number)
    async with superuser(shared_database) as connection:
        await tampering(connection, org.id)


async def frozen_in_database(shared_database: Database, org: OrgFacts) -> str:
    async with superuser(shared_database) as connection:
        reason = await connection.fetchval(
            "SELECT frozen_reason FROM heads WHERE org_id = $1 AND frozen_at IS NOT NULL", org.id
        )
        events = await connection.fetch(
            "SELECT detail FROM security_events WHERE org_id = $1 AND kind = 'org_frozen'", org.id
        )
    assert [row[0] for row in events] == [reason]
    return str(reason)


async def refused_beside_another(shared_database: Database, by: Process, org: OrgFacts) -> None:
    """Check that an append is refused in the transaction that commits another org's append."""
    other = await new_org(by.database)
    before = len(await rows_of(shared_database, org.id))
    reports = len(by.reports)
    refused, taken = by.append_in_task(org, b"refused"), by.append_in_task(other, b"taken")
    with pytest.raises(OrgFrozen) as error:
        await refused
    await taken
    assert by.reports[reports].orgs == 2
    assert by.reports[reports].frozen
    assert await sound_trail(shared_database, other) == [b"taken"]
    assert len(await rows_of(shared_database, org.id)) == before
    for _ in range(2):  # the org stays frozen, without another event
        with pytest.raises(OrgFrozen):
            await by.append(org, b"refused")
    assert await frozen_in_database(shared_database, org) in str(error.value)


async def thawed(
    shared_database: Database, by: Process, others: list[Process], org: OrgFacts
) -> None:
    """Check that after a thaw by one process every process appends, each linking to the newest entry."""
    before = len(await rows_of(shared_database, org.id))
    appended = await by.sequencer.append(request(org, b"thawed", thaw=True))
    for each in [*others, by, *others]:
        after = await each.append(org, b"after")
        previous, appended = appended, after
        assert after.receipts()[0].previous_hash == previous.head.entry_hash
        assert after.head.seq == previous.head.seq + 1
    rows = await rows_of(shared_database, org.id)
    assert len(rows) == before + 2 + 2 * len(others)
    assert year(rows[-1]) == max(year(row) for row in rows) < 2100


def year(row: StoredEntry) -> int:
    return row.anchored_at.year


@pytest.mark.parametrize("case", SEEN_BY_ALL)
async def test_tampering_freezes_the_org_where_its_trail_is_known(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    case: str,
) -> None:
    await tampered(shared_database, first_process, org, SEEN_BY_ALL[case])
    await refused_beside_another(shared_database, first_process, org)
    if case in LOST:
        await not_thawed(second_process, org)
    else:
        await thawed(shared_database, second_process, [first_process], org)


@pytest.mark.parametrize("case", SEEN_BY_ALL)
async def test_tampering_freezes_the_org_where_its_trail_was_never_seen(
    shared_database: Database,
    first_process: Process,
    unaware_process: Process,
    org: OrgFacts,
    case: str,
) -> None:
    await tampered(shared_database, first_process, org, SEEN_BY_ALL[case])
    await refused_beside_another(shared_database, unaware_process, org)
    if case in LOST:
        await not_thawed(first_process, org)
    else:
        await thawed(shared_database, first_process, [unaware_process], org)


@pytest.mark.parametrize("tampering", SEEN_BY_MEMORY.values(), ids=SEEN_BY_MEMORY)
async def test_a_restored_older_state_is_refused_by_processes_that_saw_the_newer(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    unaware_process: Process,
    org: OrgFacts,
    tampering: Tampering,
) -> None:
    await second_process.append(org, b"seen by two as well")
    await tampered(shared_database, first_process, org, tampering)
    await refused_beside_another(shared_database, first_process, org)
    for each in (first_process, second_process):
        await not_thawed(each, org)
    # Thawed by another machine, which saw nothing: the trail is still before what this one
    # acknowledged, and stays refused here.
    await unaware_process.sequencer.append(request(org, b"thawed", thaw=True))
    for each in (first_process, second_process):
        with pytest.raises(OrgFrozen):
            await each.append(org, b"refused")


FORGED_THAWS = {
    "another time of the thaw": head("thawed_us = thawed_us + 1"),
    "frozen no more": head("frozen_reason = NULL, frozen_at = NULL, thawed_us = thawed_us + 1"),
}


@pytest.mark.parametrize("forged", FORGED_THAWS.values(), ids=FORGED_THAWS)
@pytest.mark.parametrize("tampering", SEEN_BY_MEMORY.values(), ids=SEEN_BY_MEMORY)
async def test_a_forged_thaw_hides_no_cut(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    tampering: Tampering,
    forged: Tampering,
) -> None:
    await tampered(shared_database, first_process, org, steps(tampering, forged))
    for each in (first_process, second_process):
        with pytest.raises(OrgFrozen, match="accept-loss"):
            await each.append(org, b"refused")
        async with superuser(shared_database) as connection:
            await forged(connection, org.id)
    with pytest.raises(OrgFrozen, match="acknowledged here"):
        await first_process.append(org, b"refused")


async def test_a_cut_is_refused_by_a_process_that_starts_after_it(
    shared_database: Database, first_process: Process, tmp_path: Path, org: OrgFacts
) -> None:
    await tampered(shared_database, first_process, org, SEEN_BY_MEMORY["rolled back"])
    with contextlib.closing(AcknowledgedHeads(tmp_path / HEADS_FILE, IDENTITY)) as heads:
        async with process(shared_database.server_url, memory=heads) as started:
            with pytest.raises(OrgFrozen, match="seq 4 was acknowledged here"):
                await started.append(org, b"refused")
            await not_thawed(started, org)
            other = await new_org(started.database)
            await started.append(other, b"taken")


async def not_thawed(by: Process, org: OrgFacts) -> None:
    """Check that no thaw lets the trail go on before what was acknowledged, or beside it."""
    with pytest.raises(OrgFrozen, match="can't be thawed"):
        await by.sequencer.append(request(org, b"thawed", thaw=True))
    with pytest.raises(OrgFrozen):
        await by.append(org, b"refused")


async def test_an_entry_inserted_after_the_head_freezes_a_trail_not_seen_before(
    shared_database: Database, first_process: Process, unaware_process: Process, org: OrgFacts
) -> None:
    beyond = change_newest(duplicate, seq=lambda seq: seq + 1)
    await tampered(shared_database, first_process, org, beyond)
    await refused_beside_another(shared_database, unaware_process, org)
    await thawed(shared_database, first_process, [unaware_process], org)
    async with process(shared_database.server_url) as newcomer:
        await newcomer.append(org, b"nothing is left beyond the head")


async def test_processes_accept_the_entries_of_another(
    shared_database: Database, first_process: Process, second_process: Process, org: OrgFacts
) -> None:
    expected = []
    for turn in range(4):
        for each, count in ((first_process, 2 * PAGE_BLOCKS + 3), (second_process, 1)):
            payloads = [b"%d %d" % (turn, number) for number in range(count)]
            await each.append(org, *payloads)
            expected += payloads
    assert await sound_trail(shared_database, org) == expected


WALKED = 3 * PAGE_BLOCKS
BETWEEN = {
    "edited": lambda seq: change(flip, seq, "payload", 1),
    "removed": lambda seq: change(remove, seq),
    "twice": lambda seq: change(duplicate, seq, anchored_at=lambda time: time - MICROSECOND),
}


@pytest.mark.parametrize(
    ("kind", "seq"),
    [
        *((kind, seq) for kind in ("edited", "removed") for seq in (1, 128, 129, WALKED - 1)),
        ("twice", 1),
        ("twice", 128),
    ],
)
async def test_an_extension_of_another_process_is_checked_entry_by_entry(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    kind: str,
    seq: int,
) -> None:
    await first_process.append(org, b"seen")
    for _ in range(2):
        await second_process.append(org, *(b"x" for _ in range(WALKED // 2)))
    async with superuser(shared_database) as connection:
        await BETWEEN[kind](seq)(connection, org.id)
    with pytest.raises(OrgFrozen, match=rf"seq {seq}\b|seq {seq + 1}\b|later entries|do not lead"):
        await first_process.append(org, b"refused")


async def test_a_long_extension_is_checked_at_both_ends(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ledger.core.sequencer.heads.check.MAX_WALK_ENTRIES", 50)
    await first_process.append(org, b"seen")
    await second_process.append(org, *(b"x" for _ in range(60)))
    await first_process.append(org, b"accepted")
    await second_process.append(org, *(b"x" for _ in range(60)))
    async with superuser(shared_database) as connection:
        await flip(connection, org.id, 61, "entry_hash", 9)
    with pytest.raises(OrgFrozen, match="seq 61 is not the one"):
        await first_process.append(org, b"refused")


@pytest.mark.parametrize("time", ["200000-01-01Z", "infinity", "-infinity"])
async def test_an_edited_head_time_hides_no_org(
    shared_database: Database, first_process: Process, org: OrgFacts, time: str
) -> None:
    await tampered(shared_database, first_process, org, head(f"anchored_at = '{time}'"))
    found = await orgs.org_by_slug(first_process.database, org.slug)
    assert found is not None
    assert (found.seq, found.anchored_at.year) == (4, 1970)


async def test_a_refused_thaw_leaves_the_org_frozen(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    await tampered(shared_database, first_process, org, change_newest(remove))
    with pytest.raises(OrgFrozen):
        await first_process.append(org, b"refused")
    async with held_head(shared_database, org):
        stale = asyncio.create_task(
            first_process.sequencer.append(request(org, b"thawed", thaw=True, erasures=99))
        )
        await until(lambda: first_process.sequencer._in_flight, "the thaw in flight")
    with pytest.raises(Exception, match="seal it again"):
        await stale
    assert await frozen_in_database(shared_database, org)
    with pytest.raises(OrgFrozen):
        await first_process.append(org, b"still refused")


async def test_an_unknown_key_hides_no_tampering(
    shared_database: Database, first_process: Process, unaware_process: Process, org: OrgFacts
) -> None:
    """The newest entry is replaced by a consistent one under a key that no machine has."""
    await first_process.append(org, b"first", b"second")
    async with superuser(shared_database) as connection:
        old = await stored_at(connection, org.id, 1)
        head = ChainHead(0, bytes.fromhex(decode_leaf(old.leaf).previous_hash or ""), 0)
        key = SigningKey("k-foreign", bytes(32))
        at_us = from_datetime(old.anchored_at)
        (forged,), _ = extend(org.id, org.slug, head, [draft(b"forged")], at_us, key)
        await exchange(connection, [old], [forged])
        await point_head_at(connection, org.id, 1)
    before = len(await rows_of(shared_database, org.id))
    with pytest.raises(SigningKeyMissing, match="k-foreign"):
        await unaware_process.append(org, b"who never saw the entry can't tell")
    assert len(await rows_of(shared_database, org.id)) == before
    with pytest.raises(OrgFrozen, match="not the one that was acknowledged"):
        await first_process.append(org, b"refused")
