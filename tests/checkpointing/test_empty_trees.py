"""The tree of an org without entries is signed once at size 0; later it grows like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ledger.core.checkpointing.memory import SignerMemory
from ledger.core.org import OrgFacts
from ledger.errors import DatabaseUnavailable
from ledger.merkle import EMPTY_ROOT
from ledger.storage.signing import SignerConnection
from ledger.storage.signing_transaction import SigningTransaction
from tests.support.appending import Process
from tests.support.clusters import Database
from tests.support.signing import (
    checkpointer,
    checkpoints_of,
    fetch,
    sound_anchors,
    sound_history,
)


async def test_a_new_org_is_signed_at_size_0_once(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    memory = tmp_path / "memory"
    async with checkpointer(database.server_url, memory) as signer:
        report = await signer.round()
        assert (report.checkpoints, report.entries, report.stopped) == (1, 0, [])
        for _ in range(3):
            assert (await signer.round()).checkpoints == 0
            assert (await signer.sweep()).stopped == []
            assert await signer.anchor() is None
    first = await checkpoints_of(database, org.id)
    assert list(first) == [0]
    # A restarted signer, and one with an empty memory, do not sign it again either.
    for again in (memory, tmp_path / "unknowing"):
        async with checkpointer(database.server_url, again) as signer:
            assert (await signer.sweep()).stopped == []
            assert (await signer.round()).checkpoints == 0
    await server.append(org, b"a", b"b", b"c")
    async with checkpointer(database.server_url, memory) as signer:
        assert (await signer.round()).entries == 3
        assert await signer.anchor() == 1
        assert (await signer.round()).checkpoints == 0
    assert await sound_history(database, org, memory) == [0, 3]
    assert (await checkpoints_of(database, org.id))[0] == first[0]
    await sound_anchors(database, memory)


async def test_an_org_with_entries_before_the_first_round_needs_no_size_0(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    await server.append(org, b"a")
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        for _ in range(2):
            await signer.round()
    assert await sound_history(database, org, tmp_path / "memory") == [1]


@pytest.mark.parametrize("grows", [False, True], ids=["empty", "grown"])
@pytest.mark.parametrize("after", [False, True], ids=["before-commit", "after-commit"])
async def test_a_crash_signs_no_two_notes(
    database: Database,
    one_org: tuple[Process, OrgFacts],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
    grows: bool,
) -> None:
    """The memory has the size, and COMMIT fails, or takes effect without an answer."""
    server, org = one_org
    memory = tmp_path / "memory"
    owner: Any = SignerConnection if after else SigningTransaction
    name = "transaction" if after else "announce"
    original = getattr(owner, name)

    async def announce(_: SigningTransaction) -> None:
        raise DatabaseUnavailable("cut before COMMIT")

    class CommitFate:
        def __init__(self, connection: SignerConnection) -> None:
            self._inner = original(connection)

        async def __aenter__(self) -> SigningTransaction:
            transaction: SigningTransaction = await self._inner.__aenter__()
            return transaction

        async def __aexit__(self, *error: Any) -> None:
            await self._inner.__aexit__(*error)
            raise DatabaseUnavailable("cut after COMMIT")

    async with checkpointer(database.server_url, memory) as signer:
        with monkeypatch.context() as broken:
            broken.setattr(owner, name, lambda own: CommitFate(own) if after else announce(own))
            with pytest.raises(DatabaseUnavailable):
                await signer.round()
        stored = await checkpoints_of(database, org.id)
        assert list(stored) == ([0] if after else [])
        if grows:
            await server.append(org, b"meanwhile")
        for _ in range(2):
            assert (await signer.round()).stopped == []
    sizes = await sound_history(database, org, memory)
    assert sizes == [0] * (after or not grows) + [1] * grows
    assert (await checkpoints_of(database, org.id)).items() >= stored.items()


async def test_a_leader_that_read_before_another_signed_signs_nothing(
    database: Database,
    one_org: tuple[Process, OrgFacts],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, org = one_org
    async with SignerConnection.open(database.signer_url) as looking:
        pending = await looking.pending(0)
    assert [one.org_id for one in pending] == [org.id]
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        assert (await signer.round()).checkpoints == 1

    async def stale(*_: Any) -> list[Any]:
        return pending

    async with checkpointer(database.server_url, tmp_path / "other") as signer:
        monkeypatch.setattr(SignerConnection, "pending", stale)
        report = await signer.round()
        assert (report.checkpoints, report.stopped) == (0, [])


async def test_a_frozen_org_is_not_signed(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    freeze = "UPDATE heads SET frozen_reason = $2, frozen_at = now() WHERE org_id = $1"
    await server.database.execute(freeze, org.id, "by hand")
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        assert (await signer.round()).checkpoints == 0
        await server.database.execute(freeze, org.id, None)
        assert (await signer.round()).checkpoints == 1


async def test_a_planted_checkpoint_of_size_0_stops_the_org(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    _, org = one_org
    await fetch(
        database,
        "INSERT INTO checkpoints (org_id, size, root, note) VALUES ($1, 0, $2, 'planted')",
        org.id,
        EMPTY_ROOT,
    )
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        ((_, _, doubt),) = (await signer.round()).stopped
        assert doubt.kind == "rows_planted"


async def test_another_root_that_was_signed_for_size_0_is_noticed(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    _, org = one_org
    memory = SignerMemory(tmp_path / "memory")
    memory.remember([(org.id, 0, b"r" * 32)])
    memory.close()
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        ((_, _, doubt),) = (await signer.round()).stopped
    assert doubt.kind == "history_rewritten"
    assert await fetch(database, "SELECT FROM checkpoints") == []
