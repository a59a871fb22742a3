"""A synchronous standby of a private cluster, to be promoted when the primary is killed."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import psutil

from server.embedded import OWNER_ROLE, SERVER_ROLE, SUPERUSER
from server.embedded.binaries import program_folder
from tests.support.clusters import Database, OwnCluster, _free_port

START_S = 60.0


class Standby:
    """A standby; the primary acknowledges a commit only once the standby has it."""

    def __init__(self, primary: OwnCluster) -> None:
        self.port = _free_port()
        self._primary = primary
        # Beside the primary's data, where the account of both servers may write.
        self._data = primary.postgres.data.with_name("standby")
        _, self._account = primary.postgres._claim()
        self._programs = program_folder(self._account)
        self._postmaster: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Copy the primary, start, and make the primary wait for this standby."""
        rules = self._primary.postgres.data / "pg_hba.conf"
        rules.write_text(rules.read_text() + "host replication all 127.0.0.1/32 trust\n")
        await self._on_primary("SELECT pg_reload_conf()")
        source = f"host=127.0.0.1 port={self._primary.port} user={SUPERUSER}"
        copied = await asyncio.to_thread(
            self._account.run,
            self._programs / "pg_basebackup", "-R", "-X", "stream", "-c", "fast",
            "-d", source, "-D", self._data,
        )  # fmt: skip
        assert copied.returncode == 0, copied.stderr
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        self._postmaster = self._account.spawn(
            self._programs / "postgres", "-D", self._data,
            *(word for option in options for word in ("-c", option)),
            cwd=self._data, log=self._data.with_suffix(".log"),
        )  # fmt: skip
        await self._on_primary("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await self._on_primary("SELECT pg_reload_conf()")
        deadline = time.monotonic() + START_S
        query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        while await self._on_primary(query) != 1:
            assert time.monotonic() < deadline, "the standby does not follow"
            await asyncio.sleep(0.05)

    async def promote(self) -> None:
        """Make this server the primary, without a standby of its own."""
        connection = await asyncpg.connect(self.database.superuser_url)
        try:
            assert await connection.fetchval("SELECT pg_promote()")
            await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Suspend all its processes while the block runs: alive, but silent."""
        assert self._postmaster is not None
        postmaster = psutil.Process(self._postmaster.pid)
        processes = [postmaster, *postmaster.children()]
        for each in processes:
            each.suspend()
        try:
            yield
        finally:
            for each in processes:
                each.resume()

    def stop(self) -> None:
        """Stop the server."""
        if self._postmaster is not None:
            self._postmaster.terminate()
            self._postmaster.wait(START_S)

    @property
    def database(self) -> Database:
        """This server's database `quire`, with the URLs of its three roles."""
        address = f"127.0.0.1:{self.port}/quire"
        return Database(
            "quire",
            *(f"postgresql://{role}@{address}" for role in (OWNER_ROLE, SERVER_ROLE, SUPERUSER)),
        )

    async def _on_primary(self, statement: str) -> object:
        connection = await asyncpg.connect(self._primary.superuser_url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()
