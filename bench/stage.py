"""The stage: one PostgreSQL with scratch databases, servers in front, and a complete cleanup.

A reaper process at the other end of a pipe ends all processes that name the
directory and removes it, however the benchmark ends, even by kill -9.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from ledger.keys import SigningKeyring
from ledger.storage.migrate import migrate
from ledger.storage.provision import provision
from server.embedded import OWNER_ROLE, SERVER_ROLE, SUPERUSER, EmbeddedPostgres
from tests.support import reaper
from tests.support.quire_process import logins

SIGNING_SECRET: Final = "the signing key of the benchmark, 32 bytes and more"
MASTER_KEY: Final = bytes(range(32))
START_S: Final = 60.0
STOP_S: Final = 30.0
LOG_TAIL_CHARS: Final = 2_000
REPOSITORY: Final = Path(__file__).parents[1]
KEYRING: Final = SigningKeyring.from_secret(SIGNING_SECRET.encode())


class StageFailed(Exception):
    """A process that the benchmark needs did not start, or did not work."""


class Scratch(NamedTuple):
    """One scratch database and the URLs of its roles."""

    name: str
    server_url: str
    owner_url: str
    superuser_url: str


class Stage:
    """The databases and servers of a benchmark; made by :func:`open_stage`."""

    def __init__(self, directory: Path, postgres: EmbeddedPostgres) -> None:
        self.directory = directory
        self._postgres = postgres

    def database(self) -> Scratch:
        """Create a database with the schema."""
        scratch = self._named(f"bench_{secrets.token_hex(4)}")
        asyncio.run(provision(self._postgres.url(SUPERUSER), scratch.name))
        asyncio.run(migrate(scratch.owner_url))
        return scratch

    def clone(self, scratch: Scratch) -> Scratch:
        """Copy a database, which must have no connections."""
        copy = self._named(f"bench_{secrets.token_hex(4)}")
        self.execute(
            self._postgres.url(SUPERUSER),
            f"CREATE DATABASE {copy.name} TEMPLATE {scratch.name} "
            f"OWNER {OWNER_ROLE} STRATEGY FILE_COPY",
        )
        asyncio.run(provision(self._postgres.url(SUPERUSER), copy.name))
        return copy

    def drop(self, scratch: Scratch) -> None:
        """Drop a database to free its disk space."""
        self.execute(
            self._postgres.url(SUPERUSER), f"DROP DATABASE IF EXISTS {scratch.name} WITH (FORCE)"
        )

    def execute(self, url: str, *statements: str) -> None:
        """Run statements one by one."""
        asyncio.run(_execute(url, statements))

    def _named(self, name: str) -> Scratch:
        url = self._postgres.url
        return Scratch(name, url(SERVER_ROLE, name), url(OWNER_ROLE, name), url(SUPERUSER, name))

    @contextmanager
    def server(self, scratch: Scratch, **settings: str) -> Iterator[int]:
        """Start `quire serve` with one worker and a signer on a database; give its port.

        ``settings`` have names in lower case, without their prefix.
        """
        port = free_port()
        home = self.directory / f"serve-{scratch.name}-{secrets.token_hex(2)}"
        environ = {name: value for name, value in os.environ.items() if "QUIRE" not in name} | {
            **logins(scratch.server_url),
            "QUIRE_DATABASE_OWNER_URL": scratch.owner_url,
            "QUIRE_AUDIT_SECRET_KEY": SIGNING_SECRET,
            "QUIRE_MASTER_KEY": MASTER_KEY.hex(),
            "QUIRE_LOG_LEVEL": "warning",
            **{f"QUIRE_{name.upper()}": value for name, value in settings.items()},
        }
        options = ["--port", str(port), "--workers", "1", "--data-dir", str(home)]
        command = [str(Path(sys.executable).with_name("quire")), "serve", *options]
        with self._running(command, environ, f"http://127.0.0.1:{port}/readyz"):
            yield port

    @contextmanager
    def noop(self) -> Iterator[int]:
        """Start the bare app; give its port."""
        port = free_port()
        command = [sys.executable, "-m", "bench.noop", str(port)]
        with self._running(command, dict(os.environ), f"http://127.0.0.1:{port}/"):
            yield port

    @contextmanager
    def _running(self, command: list[str], environ: dict[str, str], url: str) -> Iterator[None]:
        log = self.directory / f"{secrets.token_hex(4)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                # The reaper finds processes that name the directory.
                env=environ | {"BENCH_DIRECTORY": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _await_answer(process, url)
            yield
        except Exception as error:
            error.add_note(f"server: exit code {process.poll()}; its log ends:\n{tail(log)}")
            raise
        finally:
            _end(process)


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Start PostgreSQL in a new directory; both are removed at the end of the block."""
    with reaped_directory() as directory:
        postgres = EmbeddedPostgres(directory / "data")
        try:
            postgres.start()
            yield Stage(directory, postgres)
        finally:
            _quit(postgres)


@contextmanager
def reaped_directory() -> Iterator[Path]:
    """Make a directory; it and every process that names it are removed at the end of the block."""
    directory = Path(tempfile.mkdtemp(prefix="quire-bench-"))
    directory.chmod(0o711)  # PostgreSQL's user must reach its files
    with subprocess.Popen(
        [sys.executable, "-I", reaper.__file__, str(directory)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as reaping:
        try:
            yield directory
        finally:
            assert reaping.stdin is not None
            reaping.stdin.close()
            reaping.wait()  # after ^C, Popen's own exit would not wait


def _quit(postgres: EmbeddedPostgres) -> None:
    """Stop PostgreSQL without a checkpoint: its files are deleted."""
    if postgres.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(postgres.pid, signal.SIGQUIT)
        postgres.stop()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await_answer(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            if error.code == 404:  # the bare app has no such route, so it is up
                return
        except OSError:
            pass
        else:
            return
        time.sleep(0.05)
    raise StageFailed("a server did not start")


def tail(log: Path) -> str:
    """Return the end of a log, for an error message."""
    return log.read_text(errors="replace")[-LOG_TAIL_CHARS:]


def free_port() -> int:
    """Return an unused TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _execute(url: str, statements: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
