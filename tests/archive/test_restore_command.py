"""`quire archive restore` and `quire retention` as an operator runs them, also with kill -9."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ledger.archive.targets import Target
from ledger.core.checkpointing import MEMORY_FILE, recall
from ledger.keys import dump_keyring
from ledger.log_keys import dump_log_keys
from ledger.storage import dropped_months
from tests.cli.commands import QUIRE, environment, run
from tests.support import blocks
from tests.support.archives import KEYS, SignedTrail
from tests.support.clusters import Cluster, Database
from tests.support.orgs import adopt
from tests.support.quire_process import logins
from tests.support.restoring import contents, verified
from tests.support.retaining import append_three_months, set_retention
from tests.support.serving import MASTER_KEY
from tests.support.signing import checkpointer
from tests.support.trails import ORG, ORG_ID, RING
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def unmigrated_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A database without tables: the restore migrates it."""
    database = postgres_cluster.empty()
    yield database
    postgres_cluster.drop(database)


def operators(database: Database, target: Target, data_dir: Path) -> dict[str, str]:
    """The settings of a machine that has only the keys."""
    data_dir.mkdir(exist_ok=True)
    for name, content in (
        ("signing-keys.json", dump_keyring(RING)),
        ("log-keys.json", dump_log_keys(KEYS)),
    ):
        (data_dir / name).write_bytes(content)
        (data_dir / name).chmod(0o600)
    return {
        "QUIRE_DATA_DIR": str(data_dir),
        "QUIRE_DATABASE_URL": database.server_url,
        "QUIRE_DATABASE_OWNER_URL": database.owner_url,
        "QUIRE_MASTER_KEY": MASTER_KEY,
        "QUIRE_ARCHIVE_URL": target.url,
    }


async def test_an_operator_restores(
    archived_trail: SignedTrail,
    folder: Target,
    unmigrated_database: Database,
    tmp_path: Path,
) -> None:
    await archived_trail.grow(300, 20)
    await archived_trail.archive(folder)
    settings = operators(unmigrated_database, folder, tmp_path / "data")
    done = await asyncio.to_thread(run, "archive", "restore", ORG, settings=settings)
    assert (done.returncode, done.stderr.decode()) == (
        0,
        "Its sealing keys were not in the database: payloads sealed so far stay sealed. "
        "Create new API keys for it.\n",
    )
    assert done.stdout == b"acme: 320 entries and 2 checkpoints restored and verified.\n"
    assert await contents(unmigrated_database) == await contents(archived_trail.database)
    again = await asyncio.to_thread(run, "archive", "restore", ORG, settings=settings)
    assert again.returncode == 2
    assert b"already has entries" in again.stderr
    unknown = await asyncio.to_thread(run, "archive", "restore", "nobody", settings=settings)
    assert unknown.returncode == 2


async def test_a_shorter_restore_names_its_loss_and_is_signed_again(
    archived_trail: SignedTrail,
    folder: Target,
    unmigrated_database: Database,
    tmp_path: Path,
) -> None:
    await archived_trail.grow(30)
    await archived_trail.archive(folder)
    await archived_trail.grow(5)
    settings = operators(unmigrated_database, folder, tmp_path / "data")
    settings |= logins(unmigrated_database.server_url)
    memory = tmp_path / "data" / MEMORY_FILE
    shutil.copy(archived_trail.memory, memory)
    short = await asyncio.to_thread(run, "archive", "restore", ORG, settings=settings)
    assert short.returncode != 0
    assert b"5 would be lost" in short.stderr
    done = await asyncio.to_thread(run, "archive", "restore", ORG, "--shorter", settings=settings)
    assert done.returncode == 0, done.stderr
    assert b"Their loss is accepted" in done.stderr
    async with checkpointer(unmigrated_database.server_url, memory, KEYS) as signer:
        report = await signer.round()
        assert report.stopped == []
        assert await signer.anchor() is not None
    assert recall(memory, [ORG_ID])[ORG_ID].size == 31
    assert await verified(unmigrated_database, memory) == []
    again = await asyncio.to_thread(
        run, "orgs", "accept-loss", ORG, "--reason", "again", settings=settings
    )
    assert again.returncode != 0
    assert b"has lost nothing" in again.stderr


async def test_kill_9_in_the_middle(
    archived_trail: SignedTrail,
    folder: Target,
    unmigrated_database: Database,
    tmp_path: Path,
) -> None:
    await archived_trail.grow(12_000)
    await archived_trail.archive(folder)
    settings = operators(unmigrated_database, folder, tmp_path / "data")
    command = [*QUIRE, "archive", "restore", ORG]
    with subprocess.Popen(command, env=environment(settings), stderr=subprocess.PIPE) as process:
        await _copying(unmigrated_database)
        process.send_signal(signal.SIGKILL)
    connection = await asyncpg.connect(unmigrated_database.superuser_url)
    try:
        for table in (
            "orgs",
            blocks.TABLE,
            "checkpoints",
            "tile_parts",
            "anchor_leaves",
            "log_keys",
        ):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    finally:
        await connection.close()
    again = await asyncio.to_thread(run, "archive", "restore", ORG, settings=settings)
    assert again.returncode == 0, again.stderr
    assert await contents(unmigrated_database) == await contents(archived_trail.database)


async def _copying(database: Database) -> None:
    """Wait until a restore has written rows and not yet committed them."""
    deadline = time.monotonic() + PATIENCE_S
    connection = await asyncpg.connect(database.superuser_url)
    try:
        while not await connection.fetchval(
            "SELECT to_regclass($1) IS NOT NULL "
            "AND pg_total_relation_size(to_regclass($1)) > 300000",
            blocks.partition(2026, 1),
        ):
            assert time.monotonic() < deadline, "the restore did not begin"
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def test_an_operator_drops_months(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    await append_three_months(archived_trail, folder, 30, 5, 5)
    await adopt(archived_trail.database, ORG)
    await set_retention(archived_trail, None)
    settings = operators(archived_trail.database, folder, tmp_path / "data")
    without = await asyncio.to_thread(run, "retention", "run", settings=settings)
    assert without.returncode == 2
    assert b"QUIRE_RETENTION_MONTHS" in without.stderr
    settings["QUIRE_RETENTION_MONTHS"] = "1"
    nobody = await asyncio.to_thread(run, "retention", "run", settings=settings)
    assert nobody.returncode == 2
    assert b"CREATE ROLE quire_retention LOGIN" in nobody.stderr
    settings["QUIRE_DATABASE_RETENTION_URL"] = archived_trail.database.retention_url
    refused = await asyncio.to_thread(run, "retention", "run", settings=settings)
    assert refused.returncode != 0
    assert b"QUIRE_RETENTION_UNLOCKED=true" in refused.stderr
    shown = await asyncio.to_thread(run, "retention", "status", settings=settings)
    assert b"QUIRE_RETENTION_UNLOCKED=true" in shown.stdout
    assert await dropped_months.live_from(archived_trail.server, ORG_ID) == 0
    settings["QUIRE_RETENTION_UNLOCKED"] = "true"
    done = await asyncio.to_thread(run, "retention", "run", settings=settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == [
        f"2026-0{month} dropped: {count} entries of 1 org, recorded in entry {seq} of the trail system."
        for seq, (month, count) in enumerate(((1, 30), (2, 5), (3, 5)), 2)
    ]
    assert await dropped_months.live_from(archived_trail.server, ORG_ID) == 40
    shown = await asyncio.to_thread(run, "retention", "status", "--json", settings=settings)
    found = json.loads(shown.stdout)
    assert (found["keep_months"], found["kept_by"]) == (1, None)
    assert [month[:2] for month in found["gone"]] == [
        ["2026-01-01", 30], ["2026-02-01", 5], ["2026-03-01", 5],
    ]  # fmt: skip
    again = await asyncio.to_thread(run, "retention", "run", settings=settings)
    assert (again.returncode, again.stdout) == (0, b"")
