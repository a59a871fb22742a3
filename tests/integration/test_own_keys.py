"""A start with the keys of another database is refused before anything is written."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from ledger.core.sequencer import HEADS_FILE
from ledger.keys import SigningKey, SigningKeyring, dump_keyring
from server.cli.base.private_file import replace_private_file
from server.embedded import SUPERUSER, EmbeddedPostgres
from server.keys.own_keys import ForeignKeys
from server.process.serve import prepare
from server.refusal import StartupRefused
from server.settings import Settings
from tests.cli.commands import QUIRE, environment, run
from tests.support.clusters import Database, blocking
from tests.support.rings import slow
from tests.support.serving import start_server

FILES = ("master.key", "signing-keys.json", "log-keys.json", "signed.sqlite")
NAMES = {
    "master.key": "The master key in",
    "signing-keys.json": "The signing keys in",
    "log-keys.json": "The log keys in",
    "signed.sqlite": "memory of another database",
}


async def fetch(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


def serve_until_signed(data_dir: Path) -> None:
    """Run a first `quire serve` until the signer has its keys and its memory."""
    with subprocess.Popen(
        [*QUIRE, "serve", "--port", free_port(), "--data-dir", str(data_dir)],
        env=environment({"QUIRE_LOG_FORMAT": "json", "QUIRE_ARCHIVE_URL": "off"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if '"signing checkpoints"' in line:
                break
        else:
            raise AssertionError(seen)
        while not (data_dir / "signed.sqlite").exists():
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=60)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def used_data_dirs(session_dir: Path) -> tuple[Path, Path]:
    """The data directories of two databases that were served once."""
    made = (session_dir / "own-a", session_dir / "own-b")
    for path in made:
        serve_until_signed(path)
    return made


@pytest.fixture
def directory_with_foreign_file(
    used_data_dirs: tuple[Path, Path], data_dir: Path
) -> Callable[[str], Path]:
    """Copy the first data directory with one file of the second in it; returns the copy."""

    def make(name: str) -> Path:
        subprocess.run(["cp", "-a", used_data_dirs[0], data_dir], check=True)
        for extra in data_dir.glob(f"{name}*"):
            extra.unlink()
        for file in used_data_dirs[1].glob(f"{name}*"):
            shutil.copy2(file, data_dir / file.name)
        return data_dir

    return make


def contents(data_dir: Path) -> dict[str, bytes]:
    return {name: (data_dir / name).read_bytes() for name in FILES}


def rows(data_dir: Path) -> list[str]:
    """Every row of the embedded database that a start could write."""
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    try:
        url = postgres.url(SUPERUSER, "quire")
        tables = [
            row[0]
            for row in blocking(
                fetch(
                    url,
                    "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public' ORDER BY 1",
                )
            )
        ]
        return [f"{table}: {blocking(fetch(url, f'SELECT * FROM {table}'))}" for table in tables]
    finally:
        postgres.stop()


SERVE = ("serve",)
REFUSED = [
    ("signed.sqlite", SERVE),
    *(slow(name, SERVE) for name in FILES[:3]),
    ("master.key", ("migrate",)),
    slow("log-keys.json", ("retention", "status")),
    slow("signing-keys.json", ("archive", "restore", "demo")),
]


@pytest.mark.parametrize(("name", "command"), REFUSED)
def test_a_file_of_another_database_is_refused_and_nothing_written(
    directory_with_foreign_file: Callable[[str], Path], name: str, command: tuple[str, ...]
) -> None:
    data_dir = directory_with_foreign_file(name)
    before, database = contents(data_dir), rows(data_dir)
    port = ("--port", free_port()) if command == SERVE else ()
    done = run(*command, *port, "--data-dir", str(data_dir))
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert NAMES[name] in said
    assert str(data_dir / name) in said
    assert "Nothing was changed" in said
    assert "backup" in said
    assert contents(data_dir) == before
    assert rows(data_dir) == database


def settings_of(database: Database, data_dir: Path, **keys: str | None) -> Settings:
    data_dir.mkdir(exist_ok=True)
    given: dict[str, object] = {
        "audit_secret_key": "a" * 32,
        "master_key": "11" * 32,
        **keys,
        "database_url": database.server_url,
        "data_dir": data_dir,
    }
    return Settings.from_env({}, given)


def start(settings: Settings) -> None:
    assert settings.database_url is not None
    blocking(prepare(settings, settings.database_url))


def refusal(settings: Settings) -> str:
    with pytest.raises(ForeignKeys) as caught:
        start(settings)
    return str(caught.value)


def test_keys_of_the_environment_are_compared_too(database: Database, data_dir: Path) -> None:
    start(settings_of(database, data_dir))
    start(settings_of(database, data_dir))
    said = refusal(settings_of(database, data_dir, master_key="22" * 32))
    assert "QUIRE_MASTER_KEY" in said
    assert "22" * 32 not in said
    said = refusal(settings_of(database, data_dir, audit_secret_key="b" * 32))
    assert "QUIRE_AUDIT_SECRET_KEY" in said
    assert "b" * 32 not in said
    start(settings_of(database, data_dir))


def test_one_of_two_first_starts_with_different_keys_is_refused(
    database: Database, session_dir: Path
) -> None:
    start(settings_of(database, session_dir / "one"))
    other = settings_of(database, session_dir / "two", master_key="22" * 32)
    assert "master key" in refusal(other)


def ring(*names: str) -> SigningKeyring:
    keys = [SigningKey(name, name.encode().ljust(32, b".")) for name in names]
    return SigningKeyring(keys, [names[-1]])


@pytest.fixture
def keyring_start(database: Database, data_dir: Path) -> Callable[[SigningKeyring], None]:
    """Start on one database with the given signing keys."""
    path = data_dir / "signing-keys.json"

    def begin(keys: SigningKeyring) -> None:
        settings = settings_of(database, data_dir, audit_secret_key=None)
        replace_private_file(path, dump_keyring(keys))
        start(settings)

    return begin


def test_a_keyring_that_has_fewer_or_more_keys_is_the_database_s(
    keyring_start: Callable[[SigningKeyring], None],
) -> None:
    keyring_start(ring("k-1"))
    keyring_start(ring("k-1", "k-2"))  # rotated
    keyring_start(ring("k-1"))  # a second machine without the newest file
    keyring_start(ring("k-2"))  # the oldest key was removed
    keyring_start(ring("k-0", "k-1", "k-2", "k-3"))
    keyring_start(ring("k-3"))
    with pytest.raises(ForeignKeys, match=r"k-9.* were signed with k-"):
        keyring_start(ring("k-9"))


def test_another_secret_under_a_known_id_is_refused(
    keyring_start: Callable[[SigningKeyring], None],
) -> None:
    keyring_start(ring("k-1"))
    with pytest.raises(ForeignKeys, match="another secret"):
        keyring_start(
            SigningKeyring([SigningKey("k-1", b"x" * 32), SigningKey("k-2", b"y" * 32)], ["k-2"])
        )


def test_a_running_server_does_not_take_up_the_keyring_of_another_database(
    database: Database, data_dir: Path
) -> None:
    data_dir.mkdir()
    path = data_dir / "signing-keys.json"
    replace_private_file(path, dump_keyring(ring("k-1")))
    server = start_server(database, data_dir, audit_secret_key=None, signing_keyring=path)
    try:
        org, key = server.create_org()
        post = f"/v1/orgs/{org}/entries"
        assert server.request("POST", post, {"event_type": "a"}, key=key).status == 201
        assert server.services is not None
        own = server.services.keyring(True).ids()
        replace_private_file(path, dump_keyring(ring("k-8", "k-9")))
        assert server.services.keyring(True).ids() == own
        assert server.request("POST", post, {"event_type": "a"}, key=key).status == 201
        rotated = server.services.keyring(True).rotated(SigningKey("k-2", b"2" * 32))
        replace_private_file(path, dump_keyring(rotated))
        assert server.services.keyring(True).active.key_id == "k-2"
        assert server.request("POST", post, {"event_type": "a"}, key=key).status == 201
    finally:
        server.stop()


def test_the_rows_that_identify_the_keys_are_kept(database: Database, data_dir: Path) -> None:
    start(settings_of(database, data_dir))
    checks = blocking(fetch(database.owner_url, "SELECT kind, key_id FROM key_checks"))
    assert {row["kind"] for row in checks} == {"master", "signing"}
    for statement in ("DELETE FROM key_checks", "UPDATE key_checks SET value = value"):
        with pytest.raises(asyncpg.PostgresError):
            blocking(fetch(database.owner_url, statement))


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import server.access.administration, server.access.beginnings, server.access.keys.changes, server.keys.first_start, server.keys.own_keys, server.process.serve
from server.settings import Settings

left = int(sys.argv[1])

def counted(module, name):
    work = getattr(module, name)
    def step(*arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments)
    setattr(module, name, step)

counted(server.keys.first_start, "create_private_file")
counted(server.keys.own_keys, "add_checks")
counted(server.process.serve, "begin")
counted(server.access.beginnings, "create_private_file")
counted(server.access.keys.changes.api_keys, "creation")
counted(server.access.administration.orgs, "creation")
settings = Settings.from_env({}, {"data_dir": Path(sys.argv[2])})
asyncio.run(server.process.serve.prepare(settings, sys.argv[3]))
"""


def test_a_first_start_killed_at_any_step_can_be_repeated(
    database: Database, data_dir: Path
) -> None:
    def killed_after(steps: int) -> int:
        arguments = [str(steps), str(data_dir), database.server_url]
        return subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False).returncode

    codes = [killed_after(steps) for steps in range(14)]
    assert set(codes) == {-9, 0}
    assert codes == sorted(codes), "once it is whole it stays whole"
    (data_dir / HEADS_FILE).unlink()
    keys = {path.name: path.read_bytes() for path in data_dir.iterdir() if path.is_file()}
    assert sorted(keys) == ["demo-admin.key", "master.key", "platform.key", "signing-keys.json"]
    settings = Settings.from_env({}, {"data_dir": data_dir})
    blocking(prepare(settings, database.server_url))
    (data_dir / HEADS_FILE).unlink()
    assert {path.name: path.read_bytes() for path in data_dir.iterdir()} == keys


@pytest.mark.parametrize("lost", ["master.key", "signing-keys.json"])
def test_a_key_lost_before_the_first_org_is_not_made_again(
    database: Database, data_dir: Path, lost: str
) -> None:
    steps = "3"  # two key files, and the rows that identify the database's keys
    subprocess.run(
        [sys.executable, "-c", KILLED, steps, str(data_dir), database.server_url], check=False
    )
    assert not (data_dir / "platform.key").exists()
    (data_dir / lost).unlink()
    settings = Settings.from_env({}, {"data_dir": data_dir})
    with pytest.raises(StartupRefused, match=rf"{lost} does not exist"):
        blocking(prepare(settings, database.server_url))
    assert not (data_dir / lost).exists()


def test_the_tables_of_a_backup_identify_the_keys(database: Database, data_dir: Path) -> None:
    """In the documented restore of sealed orgs the table `orgs` is loaded first, alone."""
    start(settings_of(database, data_dir))
    server = start_server(database, data_dir, audit_secret_key="a" * 32, master_key="11" * 32)
    server.create_org()
    server.stop()
    blocking(fetch(database.superuser_url, "ALTER TABLE key_checks DISABLE TRIGGER ALL"))
    blocking(fetch(database.superuser_url, "DELETE FROM key_checks"))
    assert "master key" in refusal(settings_of(database, data_dir, master_key="22" * 32))
    start(settings_of(database, data_dir))
