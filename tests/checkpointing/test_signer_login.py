"""The server's role can neither sign, nor end or hold off the signer, nor stop a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.core.org import OrgFacts
from ledger.errors import DatabaseUnavailable
from ledger.storage.signing import SignerConnection
from server.process.database.own_database import DatabaseUrls
from server.process.database.required_logins import signer_login
from server.refusal import StartupRefused
from server.settings import Settings
from tests.support.appending import Process, superuser
from tests.support.clusters import Database
from tests.support.signing import checkpointer, checkpoints_of

OLD_LEADER_LOCK = 7_305_804_403
STATEMENTS = (
    "UPDATE trees SET stopped_at = now() - interval '1 second'",
    "UPDATE trees SET size = 0",
    "INSERT INTO trees (org_id, root) VALUES (5, '')",
    "INSERT INTO tile_parts VALUES (0, 0, 0, 2, sha256(''))",
    "INSERT INTO checkpoints VALUES (0, 4, sha256(''), 'note')",
    "INSERT INTO anchor_leaves VALUES (9, 1, 1, sha256(''), sha256(''))",
    "INSERT INTO anchor_tokens (size, gen_time, token) VALUES (1, now(), 'x')",
    "INSERT INTO anchor_cosignatures (size, witness, line) VALUES (1, 'w', 'x')",
    "INSERT INTO log_keys (position, statement) VALUES (1, 'x')",
    "SELECT FROM trees FOR UPDATE",
    "BEGIN; LOCK TABLE trees IN SHARE MODE",
    "BEGIN; LOCK TABLE quire_signing.leader IN EXCLUSIVE MODE",
    "BEGIN; LOCK TABLE quire_signing.turn IN ACCESS SHARE MODE",
    "SET ROLE quire_signer",
    "SET SESSION AUTHORIZATION quire_signer",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'quire_signer' "
    "AND datname = current_database()",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'quire_signer' "
    "AND datname = current_database()",
)


async def test_the_server_s_role_stops_no_checkpoint(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    """Attack A2 (b): sessions of the signer ended, its lock taken, its trees stopped."""
    server, org = one_org
    await server.append(org, b"one")
    attacker = await asyncpg.connect(database.server_url)
    try:
        async with checkpointer(database.server_url, tmp_path / "memory") as signer:
            assert (await signer.round()).checkpoints == 1
            for statement in STATEMENTS:
                await refused(attacker, statement)
            await attacker.execute("SELECT pg_advisory_lock($1)", OLD_LEADER_LOCK)
            await server.append(org, b"two")
            assert (await signer.round()).checkpoints == 1
            await signer.anchor()
    finally:
        await attacker.close()
    assert sorted(await checkpoints_of(database, org.id)) == [1, 2]


async def refused(connection: asyncpg.Connection[Any], statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.execute("ROLLBACK")


async def test_a_signer_that_lost_its_lock_signs_nothing(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    await server.append(org, b"one")
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        async with superuser(database) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l "
                "WHERE l.relation = 'quire_signing.leader'::regclass AND l.granted"
            )
        with pytest.raises(DatabaseUnavailable, match="it lost its lock"):
            await signer.round()
    assert not await checkpoints_of(database, org.id)


async def test_a_taker_over_waits_for_the_transaction_under_way(database: Database) -> None:
    async with SignerConnection.open(database.signer_url) as first:
        assert await first.lead()
        assert await first.lead(), "the lock is kept"
        async with SignerConnection.open(database.signer_url) as second:
            assert not await second.lead()
            with pytest.raises(DatabaseUnavailable, match="does not lead"):
                async with second.transaction():
                    pass
    async with SignerConnection.open(database.signer_url) as third:
        assert await third.lead()


def test_a_start_without_the_login_is_refused() -> None:
    url = "postgresql://quire_server@db.example/quire"
    urls = DatabaseUrls("", url, None, None)
    settings = Settings.from_env({}, {"database_url": url})
    with pytest.raises(StartupRefused, match="CREATE ROLE quire_signer LOGIN PASSWORD"):
        signer_login(settings, urls)
    assert signer_login(settings, urls._replace(signer="postgresql://s@db/q")) is not None
    elsewhere = Settings.from_env({}, {"database_url": url, "checkpoints": False})
    assert signer_login(elsewhere, urls) is None
