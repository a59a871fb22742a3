"""The check before each batch fails closed: tampering freezes the org concerned and no other.

After a thaw every process appends to that org again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from ledger.chain import StoredEntry
from ledger.core.org import OrgFacts
from ledger.core.sequencer.head_check import PAGE_BLOCKS
from ledger.errors import OrgFrozen
from ledger.storage import orgs
from tests.support.appending import (
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
from tests.support.clusters import Database

NEWEST = "org_id = $1 AND seq = (SELECT max(seq) FROM entries WHERE org_id = $1)"
HEAD = "UPDATE heads SET {} WHERE org_id = $1"
ENTRY = f"UPDATE entries SET {{}} WHERE {NEWEST}"
CUT_TWO = "DELETE FROM entries WHERE org_id = $1 AND seq > 2"
ALL_GONE = "DELETE FROM entries WHERE org_id = $1"
BACK_TO_2 = """
UPDATE heads h SET seq = e.seq, entry_hash = e.entry_hash, anchored_at = e.anchored_at
FROM entries e WHERE h.org_id = $1 AND e.org_id = $1 AND e.seq = 2"""
RESET = HEAD.format("seq = -1, entry_hash = '', anchored_at = 'epoch'")
REMOVED = "DELETE FROM heads WHERE org_id = $1"


def bit(column: str, number: int) -> str:
    return f"{column} = set_bit({column}, {number}, 1 - get_bit({column}, {number}))"


# Refused by the process that wrote the trail, and by a process that never saw it.
SEEN_BY_ALL = {
    "entry: hash": [ENTRY.format(bit("entry_hash", 77))],
    "entry: signature": [ENTRY.format(bit("signature", 255))],
    "entry: leaf, first bit": [ENTRY.format(bit("leaf", 0))],
    "entry: leaf, some bit": [ENTRY.format(bit("leaf", 403))],
    "entry: leaf, NUL in a name": [
        ENTRY.format(r"""leaf = convert_to('{"a\u0000b":1}', 'UTF8')"""),
        ENTRY.format(r"entry_hash = sha256('\x00'::bytea || leaf)"),
        HEAD.format(f"entry_hash = (SELECT entry_hash FROM entries WHERE {NEWEST})"),
    ],
    "entry: payload": [ENTRY.format(bit("payload", 3))],
    "entry: payload longer": [ENTRY.format("payload = payload || '\\x00'")],
    "entry: actor_tag": [ENTRY.format("actor_tag = actor_tag # 1")],
    "entry: subject_tag": [ENTRY.format("subject_tag = subject_tag # (1::bigint << 62)")],
    "entry: anchored_at": [ENTRY.format("anchored_at = anchored_at + interval '1 microsecond'")],
    "entry: seq": [ENTRY.format("seq = seq # 64")],
    "entry: org_id": [ENTRY.format("org_id = org_id # (1::bigint << 31)")],
    "entry: removed": [f"DELETE FROM entries WHERE {NEWEST}"],
    "entry: removed with its twin of another time": [
        f"INSERT INTO entries SELECT org_id, seq, anchored_at + interval '1 second', actor_tag,"
        f" subject_tag, entry_hash, signature, leaf, payload FROM entries WHERE {NEWEST}",
        f"DELETE FROM entries WHERE {NEWEST} AND anchored_at < (SELECT max(anchored_at)"
        " FROM entries WHERE org_id = $1)",
    ],
    "tail cut": [CUT_TWO],
    "all entries removed": [ALL_GONE],
    "head: removed": [REMOVED],
    "head: reset": [RESET],
    "head: forward": [HEAD.format("seq = seq + 1")],
    "head: far forward": [HEAD.format("seq = 1::bigint << 62")],
    "head: back": [HEAD.format("seq = seq - 1")],
    "head: back to an older entry": [BACK_TO_2],
    "head: negative": [HEAD.format("seq = -5")],
    "head: empty but for its hash": [HEAD.format("seq = -1")],
    "head: hash": [HEAD.format(bit("entry_hash", 200))],
    "head: no hash": [HEAD.format("entry_hash = ''")],
    "head: time": [HEAD.format("anchored_at = anchored_at + interval '1 microsecond'")],
    "head: time ahead": [HEAD.format("anchored_at = anchored_at + interval '40 years'")],
    "head: time Python can't hold": [HEAD.format("anchored_at = '200000-01-01Z'")],
    "head: time before all time": [HEAD.format("anchored_at = '-infinity'")],
    "head: time without end": [HEAD.format("anchored_at = 'infinity'")],
    "head and entries: time ahead, entry gone": [
        f"DELETE FROM entries WHERE {NEWEST}",
        HEAD.format("anchored_at = anchored_at + interval '40 years'"),
    ],
    "head removed, entries too": [REMOVED, ALL_GONE],
}
# Only a process that remembers the trail can refuse these: a complete older state is restored.
SEEN_BY_MEMORY = {
    "rolled back": [BACK_TO_2, CUT_TWO],
    "wiped": [RESET, ALL_GONE],
}


@pytest.fixture
async def unaware_process(shared_database: Database) -> AsyncIterator[Process]:
    """A process that has never seen any trail."""
    async with process(shared_database.server_url) as running:
        yield running


async def tampered(
    shared_database: Database, first_process: Process, org: OrgFacts, statements: list[str]
) -> None:
    for number in range(5):
        await first_process.append(org, b"entry %d" % number)
    async with superuser(shared_database) as connection:
        await tamper(connection, org, statements)


async def tamper(connection: asyncpg.Connection[Any], org: OrgFacts, statements: list[str]) -> None:
    for statement in statements:
        assert not (await connection.execute(statement, org.id)).endswith(" 0"), statement


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


@pytest.mark.parametrize("statements", SEEN_BY_ALL.values(), ids=SEEN_BY_ALL.keys())
async def test_tampering_freezes_the_org_where_its_trail_is_known(
    shared_database: Database,
    first_process: Process,
    unaware_process: Process,
    org: OrgFacts,
    statements: list[str],
) -> None:
    await tampered(shared_database, first_process, org, statements)
    await refused_beside_another(shared_database, first_process, org)
    await thawed(shared_database, unaware_process, [first_process], org)


@pytest.mark.parametrize("statements", SEEN_BY_ALL.values(), ids=SEEN_BY_ALL.keys())
async def test_tampering_freezes_the_org_where_its_trail_was_never_seen(
    shared_database: Database,
    first_process: Process,
    unaware_process: Process,
    org: OrgFacts,
    statements: list[str],
) -> None:
    await tampered(shared_database, first_process, org, statements)
    await refused_beside_another(shared_database, unaware_process, org)
    await thawed(shared_database, first_process, [unaware_process], org)


@pytest.mark.parametrize("statements", SEEN_BY_MEMORY.values(), ids=SEEN_BY_MEMORY.keys())
async def test_a_restored_older_state_is_refused_by_processes_that_saw_the_newer(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    unaware_process: Process,
    org: OrgFacts,
    statements: list[str],
) -> None:
    await second_process.append(org, b"seen by two as well")
    await tampered(shared_database, first_process, org, statements)
    await refused_beside_another(shared_database, first_process, org)
    # Thawed by a process that saw nothing; the two others drop their remembered heads.
    await thawed(shared_database, unaware_process, [second_process, first_process], org)


async def test_an_entry_inserted_after_the_head_freezes_a_trail_not_seen_before(
    shared_database: Database, first_process: Process, unaware_process: Process, org: OrgFacts
) -> None:
    insert = f"""
        INSERT INTO entries SELECT org_id, seq + 1, anchored_at, actor_tag, subject_tag,
        entry_hash, signature, leaf, payload FROM entries WHERE {NEWEST}"""
    await tampered(shared_database, first_process, org, [insert])
    await refused_beside_another(shared_database, unaware_process, org)
    await thawed(shared_database, unaware_process, [first_process], org)
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
    "edited": f"UPDATE entries SET {bit('payload', 1)} WHERE org_id = $1 AND seq = {{}}",
    "removed": "DELETE FROM entries WHERE org_id = $1 AND seq = {}",
    "twice": """
        INSERT INTO entries SELECT org_id, seq, anchored_at - interval '1 microsecond', actor_tag,
        subject_tag, entry_hash, signature, leaf, payload
        FROM entries WHERE org_id = $1 AND seq = {}""",
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
        await tamper(connection, org, [BETWEEN[kind].format(seq)])
    with pytest.raises(OrgFrozen, match=rf"seq {seq}\b|seq {seq + 1}\b|later entries|do not lead"):
        await first_process.append(org, b"refused")


async def test_a_long_extension_is_checked_at_both_ends(
    shared_database: Database,
    first_process: Process,
    second_process: Process,
    org: OrgFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ledger.core.sequencer.head_check.MAX_WALK_ENTRIES", 50)
    await first_process.append(org, b"seen")
    await second_process.append(org, *(b"x" for _ in range(60)))
    await first_process.append(org, b"accepted")
    await second_process.append(org, *(b"x" for _ in range(60)))
    async with superuser(shared_database) as connection:
        await tamper(
            connection,
            org,
            [f"UPDATE entries SET {bit('entry_hash', 9)} WHERE org_id = $1 AND seq = 61"],
        )
    with pytest.raises(OrgFrozen, match="seq 61 is not the one"):
        await first_process.append(org, b"refused")


@pytest.mark.parametrize("time", ["200000-01-01Z", "infinity", "-infinity"])
async def test_an_edited_head_time_hides_no_org(
    shared_database: Database, first_process: Process, org: OrgFacts, time: str
) -> None:
    await tampered(shared_database, first_process, org, [HEAD.format(f"anchored_at = '{time}'")])
    found = await orgs.org_by_slug(first_process.database, org.slug)
    assert found is not None
    assert (found.seq, found.anchored_at.year) == (4, 1970)


async def test_a_refused_thaw_leaves_the_org_frozen(
    shared_database: Database, first_process: Process, org: OrgFacts
) -> None:
    await tampered(shared_database, first_process, org, [f"DELETE FROM entries WHERE {NEWEST}"])
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
