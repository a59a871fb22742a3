"""A database restored to an older state is found at the next checkpoint, and nothing is signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.core.checkpointing import AnchoringStopped, Checkpointer
from ledger.core.org import OrgFacts
from ledger.storage.trees import ANCHOR_LOG
from tests.support.appending import Process, new_org, process, superuser
from tests.support.blocks import TABLE
from tests.support.clusters import Cluster, Database
from tests.support.signing import checkpointer, checkpoints_of, copied, fetch, sound_history

BEFORE = 250
MORE = 100


async def append(server: Process, org: OrgFacts, count: int, text: bytes = b"x") -> None:
    await server.append(org, *[text + b"%d" % n for n in range(count)])


async def signed_in_steps(server: Process, signer: Checkpointer, org: OrgFacts, count: int) -> None:
    for _ in range(count // 50):
        await append(server, org, 50)
        assert (await signer.round()).checkpoints == 1
    await signer.anchor()


async def assert_refused(restored: Database, org: OrgFacts, memory: Path, kind: str) -> None:
    """Check that the next round or sweep signs nothing of the org, freezes it and reports why."""
    before = await checkpoints_of(restored, org.id)
    async with checkpointer(restored.server_url, memory) as signer:
        stopped = (await signer.round()).stopped + (await signer.sweep()).stopped
        assert [(org_id, doubt.kind) for org_id, _, doubt in stopped] == [(org.id, kind)]
    assert await checkpoints_of(restored, org.id) == before
    (head,) = await fetch(restored, "SELECT frozen_reason FROM heads WHERE org_id = $1", org.id)
    assert head[0].startswith(f"checkpoints stopped: {kind}: ")
    events = await fetch(restored, "SELECT detail FROM security_events WHERE org_id = $1", org.id)
    assert [event[0] for event in events] == [head[0]]


@pytest.mark.parametrize(
    ("grown", "kind"),
    [
        (0, "trail_shortened"),
        (1, "trail_shortened"),
        (MORE - 1, "trail_shortened"),
        (MORE, "history_rewritten"),
        (MORE + 7, "history_rewritten"),
    ],
    ids=["as it was", "one more entry", "almost as long", "as long", "longer"],
)
async def test_a_copy_taken_100_entries_earlier(
    postgres_cluster: Cluster, database: Database, tmp_path: Path, grown: int, kind: str
) -> None:
    memory = tmp_path / "memory"
    async with process(database.server_url) as server:
        org = await new_org(server.database)
        async with checkpointer(database.server_url, memory) as signer:
            await signed_in_steps(server, signer, org, BEFORE)
    async with copied(postgres_cluster, database) as restored:
        async with (
            process(database.server_url) as server,
            checkpointer(database.server_url, memory) as signer,
        ):
            await signed_in_steps(server, signer, org, MORE)
        async with process(restored.server_url) as server:
            if grown:
                await append(server, org, grown, b"other")
        await assert_refused(restored, org, memory, kind)
        async with checkpointer(restored.server_url, memory) as signer:
            with pytest.raises(AnchoringStopped, match="anchor_log_shortened"):
                await signer.anchor()
            with pytest.raises(AnchoringStopped):
                await signer.anchor()
        assert max(await checkpoints_of(restored, ANCHOR_LOG)) == BEFORE // 50
        events = await fetch(
            restored, "SELECT detail FROM security_events WHERE kind = 'anchoring_stopped'"
        )
        assert len(events) == 1
        # The signer of the database that was not rolled back goes on.
        async with process(database.server_url) as server:
            await append(server, org, 1)
        async with checkpointer(database.server_url, memory) as signer:
            assert (await signer.round()).stopped == []
        assert (await sound_history(database, org, memory))[-1] == BEFORE + MORE + 1


async def test_the_anchor_log_rewritten_from_a_copy(
    postgres_cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    """Another org grows the anchor log past the signed size with other leaves: a fork."""
    memory, unknowing = tmp_path / "memory", tmp_path / "unknowing"
    async with process(database.server_url) as server:
        one, other = await new_org(server.database), await new_org(server.database)
        async with checkpointer(database.server_url, memory) as signer:
            assert (await signer.round()).checkpoints == 2  # both orgs at size 0
            await signed_in_steps(server, signer, one, 100)
    async with copied(postgres_cluster, database) as restored:
        async with (
            process(database.server_url) as server,
            checkpointer(database.server_url, memory) as signer,
        ):
            await signed_in_steps(server, signer, one, 100)
        async with (
            process(restored.server_url) as server,
            checkpointer(restored.server_url, unknowing) as signer,
        ):
            await signed_in_steps(server, signer, other, 150)
        async with checkpointer(restored.server_url, memory) as signer:
            with pytest.raises(AnchoringStopped, match=r"history_rewritten|anchor_log_forked"):
                await append_and_anchor(restored, signer, other)


async def append_and_anchor(database: Database, signer: Checkpointer, org: OrgFacts) -> None:
    async with process(database.server_url) as server:
        await append(server, org, 1)
    assert (await signer.round()).stopped == []
    await signer.anchor()


@pytest.mark.parametrize(
    "tables",
    [
        (TABLE, "heads"),
        (TABLE, "heads", "trees"),
        (TABLE, "heads", "trees", "tile_parts", "checkpoints", "anchor_leaves"),
    ],
    ids=["trail", "trail and tree row", "all of it"],
)
@pytest.mark.parametrize("again", [0, 3], ids=["left empty", "begun anew"])
async def test_a_wiped_org(
    database: Database, tmp_path: Path, tables: tuple[str, ...], again: int
) -> None:
    memory = tmp_path / "memory"
    async with process(database.server_url) as server:
        org = await new_org(server.database)
        async with checkpointer(database.server_url, memory) as signer:
            await signed_in_steps(server, signer, org, 50)
        async with superuser(database) as connection:
            for table in tables:
                await connection.execute(f"DELETE FROM {table} WHERE org_id = $1", org.id)
            if again:
                await connection.execute("INSERT INTO heads (org_id) VALUES ($1)", org.id)
        if again:
            async with process(database.server_url) as fresh:
                await append(fresh, org, again)
    await assert_refused(database, org, memory, "trail_shortened")
