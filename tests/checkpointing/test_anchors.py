"""The anchor log: no planted or changed row enters an anchor; clocks and bounds."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from ledger.anchor import blind
from ledger.core.checkpointing import AnchoringStopped, RoundLimits, anchoring
from ledger.core.org import OrgFacts
from ledger.log_keys import open_anchor
from ledger.note import sign_note
from ledger.storage.trees import ANCHOR_LOG
from tests.support.appending import Process, superuser
from tests.support.clusters import Database
from tests.support.signing import (
    checkpointer,
    checkpoints_of,
    fetch,
    log_keys,
    sound_anchors,
    sound_history,
)

ADD = "INSERT INTO anchor_leaves (idx, org_id, size, nonce, leaf) VALUES ($1, $2, $3, $4, $5)"
NONCE = bytes(32)
HISTORY = log_keys().public()


async def plant(database: Database, idx: int, org: OrgFacts, size: int, leaf: bytes) -> None:
    """Add an anchor leaf, as an attacker with the rights of the signer's role can."""
    await fetch(database, ADD, idx, org.id, size, NONCE, leaf)


@pytest.mark.parametrize("place", [1, 2, 5, 2**63 - 1])
async def test_a_planted_leaf_stops_anchors_but_no_checkpoint(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path, place: int
) -> None:
    server, org = one_org
    memory = tmp_path / "memory"
    async with checkpointer(database.server_url, memory) as signer:
        await server.append(org, b"one")
        await signer.round()
        assert await signer.anchor() == 1
        await plant(database, place, org, 1, bytes(32))
        for size in (2, 3, 4, 5):
            await server.append(org, b"more")
            report = await signer.round()
            assert (report.checkpoints, report.stopped) == (1, [])
            if size < place:
                assert await signer.anchor() == size
            else:
                with pytest.raises(AnchoringStopped, match=r"anchor_leaf_changed"):
                    await signer.anchor()
    events = "SELECT FROM security_events WHERE kind = 'anchoring_stopped'"
    assert len(await fetch(database, events)) == (0 if place > 5 else 1)
    async with superuser(database) as connection:
        await connection.execute("DELETE FROM anchor_leaves WHERE leaf = $1", bytes(32))
    async with checkpointer(database.server_url, memory) as signer:
        await server.append(org, b"last")
        await signer.round()
        assert await signer.anchor() == 6
    await sound_anchors(database, memory)
    await sound_history(database, org, memory)


async def test_a_second_leaf_of_our_own_checkpoint_does_no_harm(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        await server.append(org, b"one")
        await signer.round()
        note = (await checkpoints_of(database, org.id))[1]
        await plant(database, 1, org, 1, blind(NONCE, note))
        assert await signer.anchor() == 2
    await sound_anchors(database, tmp_path / "memory")


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_foreign_checkpoint_enters_no_anchor(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path, restarted: bool
) -> None:
    server, org = one_org
    memory = tmp_path / "memory"
    await server.append(org, b"one")
    async with checkpointer(database.server_url, memory) as signer:
        await signer.round()
        opened = (await checkpoints_of(database, org.id))[1]
        text = opened.partition(b"\n\n")[0] + b"\n"
        forged = sign_note(text, log_keys(9).org_signers(org.slug))
        await fetch(
            database,
            "INSERT INTO checkpoints (org_id, size, root, note) VALUES ($1, 9, $2, $3)",
            org.id,
            bytes(32),
            forged,
        )
        await plant(database, 1, org, 9, blind(NONCE, forged))
        if not restarted:
            with pytest.raises(AnchoringStopped, match=r"anchor_leaf_foreign"):
                await signer.anchor()
    if restarted:
        async with checkpointer(database.server_url, memory) as signer:
            with pytest.raises(AnchoringStopped, match=r"anchor_leaf_foreign"):
                await signer.anchor()
    assert await checkpoints_of(database, ANCHOR_LOG) == {}


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE anchor_leaves SET leaf = sha256(leaf) WHERE idx = 2", "anchor_leaf_changed"),
        ("UPDATE anchor_leaves SET nonce = sha256(nonce) WHERE idx = 2", "anchor_leaf_changed"),
        ("DELETE FROM anchor_leaves WHERE idx = 2", "anchor_leaf_missing"),
        ("DELETE FROM checkpoints WHERE org_id <> 0 AND size = 3", "anchor_leaf_changed"),
        ("UPDATE trees SET size = 1 WHERE org_id = 0", "checkpoint_missing"),
        ("UPDATE trees SET size = -1 WHERE org_id = 0", "tree_row_changed"),
        ("UPDATE trees SET root = sha256(root) WHERE org_id = 0", "checkpoint_invalid"),
        ("UPDATE checkpoints SET note = set_byte(note, 3, 0) WHERE org_id = 0", "checkpoint_invalid"),
        ("UPDATE tile_parts SET hashes = sha256(hashes) || sha256('') WHERE org_id = 0", "tile_changed"),
        ("INSERT INTO tile_parts VALUES (0, 0, 0, 2, sha256(''))", "rows_planted"),
        ("INSERT INTO checkpoints VALUES (0, 4, sha256(''), 'note')", "rows_planted"),
    ],
)  # fmt: skip
async def test_each_change_stops_the_anchors_and_a_repair_starts_them(
    database: Database,
    one_org: tuple[Process, OrgFacts],
    tmp_path: Path,
    statement: str,
    kind: str,
) -> None:
    server, org = one_org
    memory = tmp_path / "memory"
    async with superuser(database) as connection:
        async with checkpointer(database.server_url, memory) as signer:
            for size in (1, 2, 3, 4):
                await server.append(org, b"more")
                await signer.round()
                if size == 2:
                    assert await signer.anchor() == 2
        tables = ("anchor_leaves", "checkpoints", "trees", "tile_parts")
        for table in tables:
            await connection.execute(f"CREATE TEMP TABLE kept_{table} AS SELECT * FROM {table}")
        await connection.execute(statement)
        async with checkpointer(database.server_url, memory) as signer:
            for _ in range(2):
                with pytest.raises(AnchoringStopped, match=kind):
                    await signer.anchor()
        assert len(await fetch(database, "SELECT FROM security_events")) == 1
        for table in tables:
            await connection.execute(f"DELETE FROM {table}")
            await connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
        async with checkpointer(database.server_url, memory) as signer:
            assert await signer.anchor() == 4
    assert await sound_anchors(database, memory) == [2, 4]


@pytest.mark.parametrize("size", [-(2**63), 100, 2**63 - 1])
@pytest.mark.parametrize("lost", [False, True])
async def test_an_edited_anchor_log_row_stops_no_checkpoint(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path, size: int, lost: bool
) -> None:
    server, org = one_org
    memory = tmp_path / "memory"
    await server.append(org, b"one")
    async with checkpointer(database.server_url, memory) as signer:
        await signer.round()
        await signer.anchor()
    await fetch(database, "UPDATE trees SET size = $1 WHERE org_id = 0", size)
    await server.append(org, b"two")
    path = tmp_path / "new" if lost else memory
    async with checkpointer(database.server_url, path) as signer:
        assert (await signer.round()).checkpoints == 1
        with pytest.raises(AnchoringStopped):
            await signer.anchor()
    assert await sound_history(database, org, path) == [1, 2]


async def test_an_idle_org_is_anchored_again_but_not_with_another_checkpoint(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    await server.append(org, b"one")
    pace = RoundLimits(retry_s=0, idle_s=0)
    async with checkpointer(database.server_url, tmp_path / "memory", pace=pace) as signer:
        await signer.round()
        assert await signer.anchor() == 1
        assert (await signer.sweep()).stopped == []
        assert await signer.anchor() == 2
        await sound_anchors(database, tmp_path / "memory")
        async with superuser(database) as connection:
            await connection.execute(
                "UPDATE checkpoints SET note = set_byte(note, 3, 65) WHERE org_id <> 0"
            )
        ((_, slug, doubt),) = (await signer.sweep()).stopped
        assert (slug, doubt.kind) == (org.slug, "checkpoint_invalid")
        assert await signer.anchor() is None


async def test_a_clock_set_back_backdates_no_anchor(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    memory = tmp_path / "memory"
    dated = []
    for clock in (2_000_000_000, 1_000_000_000, 2_000_000_005):
        async with checkpointer(database.server_url, memory, clock=lambda: clock) as signer:  # noqa: B023
            for _ in range(2):
                await server.append(org, secrets.token_bytes(8))
                assert (await signer.round()).stopped == []
                size = await signer.anchor()
                assert size is not None
                note = (await checkpoints_of(database, ANCHOR_LOG))[size]
                dated.append(open_anchor(note, HISTORY).time_s - 2_000_000_000)
        async with superuser(database) as connection:  # which is not read
            await connection.execute(
                "UPDATE trees SET anchored_at = '4000-01-01Z' WHERE org_id = 0"
            )
    assert dated == [0, 0, 0, 0, 5, 5]
    await sound_history(database, org, memory)


async def test_a_backlog_of_leaves_is_anchored_in_portions(
    database: Database,
    one_org: tuple[Process, OrgFacts],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, org = one_org
    monkeypatch.setattr(anchoring, "MAX_LEAVES", 3)
    monkeypatch.setattr(anchoring, "LEAVES_AT_ONCE", 2)
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        for _ in range(7):
            await server.append(org, b"x")
            await signer.round()
        assert [await signer.anchor() for _ in range(4)] == [3, 6, 7, None]
    await sound_anchors(database, tmp_path / "memory")
