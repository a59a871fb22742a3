"""Which orgs a round signs, and when: frozen orgs, many orgs, old and new months, rotated keys."""

from __future__ import annotations

import resource
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from ledger.chain import EMPTY_HEAD, ChainHead, extend
from ledger.core.checkpointing import RoundLimits
from ledger.core.org import OrgFacts
from ledger.entry import from_datetime
from ledger.keys import SigningKey, SigningKeyring
from ledger.log_keys import KeySeeds, rotate
from ledger.storage import signing
from tests.support import blocks
from tests.support.appending import Process, new_org, process, superuser, system_clock_us
from tests.support.clusters import Database
from tests.support.signing import (
    checkpointer,
    checkpoints_of,
    fetch,
    log_keys,
    sound_anchors,
    sound_history,
)
from tests.support.trails import KEY, NOW_US, RING, draft

ORGS = 10_000
MEMORY_KIB = 300_000


async def test_a_frozen_org_is_not_signed_and_goes_on_where_it_was(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    await server.append(org, b"one")
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        await server.database.execute(
            "UPDATE heads SET frozen_reason = 'by hand', frozen_at = now() WHERE org_id = $1",
            org.id,
        )
        report = await signer.round()
        assert (report.checkpoints, report.stopped) == (0, [])
        assert (await signer.sweep()).stopped == []
        await server.database.execute(
            "UPDATE heads SET frozen_reason = NULL WHERE org_id = $1", org.id
        )
        assert (await signer.round()).checkpoints == 1
    assert await fetch(database, "SELECT FROM security_events") == []


async def test_a_stopped_org_is_checked_again_after_a_while(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    """Also if the database's clock was set back in between."""
    server, org = one_org
    await server.append(org, b"one")
    pace = RoundLimits(retry_s=3_600)
    async with (
        checkpointer(database.server_url, tmp_path / "memory", pace=pace) as signer,
        superuser(database) as connection,
    ):
        await blocks.edit(connection, org.id, 0, leaf=lambda leaf: leaf + b" ")
        assert len((await signer.round()).stopped) == 1
        await connection.execute("UPDATE heads SET frozen_reason = NULL")
        await blocks.edit(connection, org.id, 0, leaf=lambda leaf: leaf[:-1])
        assert (await signer.round()).checkpoints == 0
        for moment in ("now() - interval '61 minutes'", "now() + interval '1 day'"):
            await connection.execute(f"UPDATE trees SET stopped_at = {moment}")
            await server.append(org, b"more")
            assert (await signer.round()).checkpoints == 1


async def test_more_orgs_than_a_round_takes(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orgs left over come first in the next round, however fast the others grow."""
    limited = signing.PENDING.replace(f"LIMIT {signing.MAX_PENDING}", "LIMIT 3")
    assert limited != signing.PENDING
    monkeypatch.setattr(signing, "PENDING", limited)
    async with (
        process(database.server_url) as server,
        checkpointer(database.server_url, tmp_path / "memory") as signer,
    ):
        orgs = [await new_org(server.database) for _ in range(7)]
        for _ in range(6):
            for org in orgs:
                await server.append(org, b"x")
            assert (await signer.round()).checkpoints == 3
        for org in orgs:
            assert len(await checkpoints_of(database, org.id)) in {2, 3}
            await sound_history(database, org, tmp_path / "memory")


async def test_a_trail_over_the_ends_of_months(database: Database, tmp_path: Path) -> None:
    ends = [datetime(2030, month, 1, tzinfo=UTC) for month in (1, 2, 3)]
    steps = [from_datetime(end) + offset for end in ends for offset in (-2, -1, 0, 1)]
    now = iter([*steps, steps[0], steps[0]])  # in the end the clock is set back by months
    async with process(database.server_url, clock=lambda: moment) as server:
        org, other = await new_org(server.database), await new_org(server.database)
        async with checkpointer(database.server_url, tmp_path / "memory") as signer:
            for moment in now:
                await server.append(org, b"one", b"two")
                if moment % 2:
                    await server.append(other, b"now and then")
                assert (await signer.round()).stopped == []
        assert await sound_history(database, org, tmp_path / "memory") == [*range(2, 29, 2)]
        await sound_history(database, other, tmp_path / "memory")


async def test_keys_of_the_log_rotated_between_rounds(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    keys = log_keys()
    for number in range(3):
        await server.append(org, *[b"x"] * 130)
        async with checkpointer(database.server_url, tmp_path / "memory", keys) as signer:
            assert (await signer.round()).checkpoints == 1
            assert await signer.anchor() == number + 1
        seeds = KeySeeds(bytes([number + 50]) * 32, bytes([number + 60]) * 32)
        keys = rotate(keys, seeds, NOW_US + number + 1)
    history = keys.public()
    assert await sound_history(database, org, None, history) == [130, 260, 390]
    assert await sound_anchors(database, None, history) == [1, 2, 3]


async def test_foreign_log_keys_sign_nothing_more(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    await server.append(org, b"one")
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        await signer.round()
    await server.append(org, b"two")
    async with checkpointer(database.server_url, tmp_path / "memory", log_keys(9)) as signer:
        ((_, _, doubt),) = (await signer.round()).stopped
        assert doubt.kind == "checkpoint_invalid"


async def test_entry_keys_rotated_while_the_signer_runs(database: Database, tmp_path: Path) -> None:
    """The signer reads the newest keys before it reports a key as unknown."""
    newer = SigningKey("newer", bytes(32))
    both = SigningKeyring([KEY, newer], ["newer"])
    asked: list[bool] = []

    def keyring(refresh: bool) -> SigningKeyring:
        asked.append(refresh)
        return both if refresh else RING

    async with process(database.server_url, keyring=both) as server:
        org = await new_org(server.database)
        await server.append(org, b"one")
        async with checkpointer(database.server_url, tmp_path / "memory") as signer:
            signer._keyring = keyring
            report = await signer.round()
            assert (report.checkpoints, report.stopped) == (1, [])
    assert asked == [False, True]


@pytest.mark.slow
async def test_ten_thousand_orgs(database: Database, tmp_path: Path) -> None:
    """One round signs and anchors all of them; a second signer reads all of them back."""
    memory, orgs = tmp_path / "memory", ORGS
    numbers = list(range(1_000_001, 1_000_001 + orgs))
    await append_one_to_each(database, numbers, first=True)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with checkpointer(database.server_url, memory) as signer:
        report = await signer.round()
        assert (report.checkpoints, report.behind, report.stopped) == (orgs, 0, [])
        assert await signer.anchor() == orgs
    await append_one_to_each(database, numbers, first=False)
    async with checkpointer(database.server_url, memory) as signer:
        report = await signer.round()
        assert (report.checkpoints, report.entries, report.stopped) == (orgs, orgs, [])
        assert await signer.anchor() == 2 * orgs
        assert (await signer.sweep()).stopped == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < MEMORY_KIB
    for number in numbers[:: orgs // 20]:
        org = OrgFacts(number, f"many-{number}", False, b"")
        assert await sound_history(database, org, memory) == [1, 2]
    counts = "SELECT count(*), count(DISTINCT org_id) FROM checkpoints WHERE org_id <> 0"
    assert [tuple(row) for row in await fetch(database, counts)] == [(2 * orgs, orgs)]
    assert await sound_anchors(database, memory) == [orgs, 2 * orgs]


_made: dict[int, ChainHead] = {}


async def append_one_to_each(database: Database, numbers: list[int], *, first: bool) -> None:
    """Write one more entry for each org, by COPY."""
    now, rows = count(system_clock_us()), []
    for number in numbers:
        at = EMPTY_HEAD if first else _made[number]
        (row,), _made[number] = extend(number, f"many-{number}", at, [draft(b"x")], next(now), KEY)
        rows.append(row)
    async with superuser(database) as connection:
        if first:
            await connection.execute("SELECT quire_create_entries_partition(now())")
            await connection.copy_records_to_table(
                "orgs",
                records=[(n, f"many-{n}", "Many", "plain", b"") for n in numbers],
                columns=("id", "slug", "name", "privacy", "wrapped_key"),
            )
        await blocks.write(connection, rows)
        await connection.execute("DELETE FROM heads")
        await connection.copy_records_to_table(
            "heads",
            records=[(row.org_id, row.seq, row.entry_hash, row.anchored_at) for row in rows],
            columns=("org_id", "seq", "entry_hash", "anchored_at"),
        )
