"""The life of the embedded PostgreSQL: start, adopt, watch, stop."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from server.embedded.account import ClusterAccount
from server.embedded.binaries import program_folder
from server.embedded.errors import EmbeddedPostgresError
from server.embedded.files import SUPERUSER, ClusterFiles
from server.embedded.home import claim_home
from server.embedded.postmaster import (
    PID_FILE,
    Postmaster,
    is_postmaster,
    orphans,
    read_pid_file,
    reap,
)
from server.settings.data_dir import make_data_dir

OWNER_ROLE = "quire_owner"
SERVER_ROLE = "quire_server"
DATABASE = "quire"

_START_SECONDS = 300  # replaying the WAL after a crash takes its time
_STOP_SECONDS = 60
_QUIT_SECONDS = 10
_ORPHAN_SECONDS = 30
_ORPHAN_PATIENCE_SECONDS = 5
_POLL_SECONDS = 0.02
_OWN = "sslmode=disable&sslnegotiation=postgres&target_session_attrs=any"


class EmbeddedPostgres:
    """One PostgreSQL cluster in a data directory, for the process that holds its DataDirLock.

    PostgreSQL is a child of this process, so that it is reaped at once when it dies, but in its
    own session: if this process is killed, PostgreSQL keeps running and the next `start` adopts
    it. All methods block; `ensure_running` is quick while PostgreSQL runs.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._child: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._socket_dir = Path()
        self._port = 0
        self._claimed: tuple[ClusterFiles, ClusterAccount] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster that was started or adopted."""
        return self._pid

    @property
    def data(self) -> Path:
        """PGDATA of the cluster."""
        return self._claim()[0].data

    def initialise(self) -> None:
        """Create the cluster's files if they do not exist; `start` does this too."""
        files, account = self._claim()
        files.initialise(program_folder(account))

    def start(self) -> None:
        """Start PostgreSQL: create the cluster if needed, adopt a running one, or start it.

        Returns when it accepts connections. Raises EmbeddedPostgresError.
        """
        files, account = self._claim()
        programs = program_folder(account)
        files.initialise(programs)
        if self._adopt():
            return
        _wait_for_orphans(files)
        _remove_stale_locks(files)
        files.write_settings()
        files.prune_logs()
        self._child = account.spawn(
            programs / "postgres", "-D", files.data, cwd=files.data, log=files.startup_log
        )
        self._pid = self._child.pid
        self._await_ready(files, self._child.pid)

    def attach(self) -> bool:
        """Use the cluster that a running server started; return False if none runs.

        This process must not stop it then. Raises EmbeddedPostgresError.
        """
        return self._adopt()

    def ensure_running(self) -> bool:
        """Start PostgreSQL again if it died; return whether it had died.

        Call it every second or so, from a thread: a check takes microseconds, a restart as long
        as crash recovery. Raises EmbeddedPostgresError when PostgreSQL cannot be started.
        """
        if self._alive():
            self._claim()[0].prune_logs()
            return False
        self.start()
        return True

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, a checkpoint is written.

        Does nothing when PostgreSQL is not running. Raises EmbeddedPostgresError if it has to be
        killed; the next start then recovers from the WAL, without loss.
        """
        if self._pid is None or not self._alive():
            return
        pid = self._pid
        self._signal(signal.SIGINT)
        if self._await_end(_STOP_SECONDS):
            self._remove_outside_socket()
            return
        self._signal(signal.SIGQUIT)
        if not self._await_end(_QUIT_SECONDS):
            raise EmbeddedPostgresError(f"PostgreSQL (process {pid}) does not stop.")
        raise EmbeddedPostgresError(
            f"PostgreSQL did not finish its shutdown within {_STOP_SECONDS} s and was killed; "
            "nothing is lost, but the next start takes longer."
        )

    def url(self, role: str, database: str | None = None) -> str:
        """Return the connection URL for a role, over the socket.

        The database defaults to `quire`, for the superuser to `postgres`. The URL sets everything
        that PGPORT, PGDATABASE, PGSSLMODE and the like could change.
        """
        if not self._port:
            raise EmbeddedPostgresError("PostgreSQL has not been started.")
        name = database or (SUPERUSER if role == SUPERUSER else DATABASE)
        host = quote(os.fsencode(self._socket_dir), safe="")
        return f"postgresql://{quote(role)}@/{quote(name)}?host={host}&port={self._port}&{_OWN}"

    def _claim(self) -> tuple[ClusterFiles, ClusterAccount]:
        if self._claimed is None:
            home = claim_home(make_data_dir(self.data_dir))
            self._claimed = ClusterFiles(home), home.account
        return self._claimed

    def _adopt(self) -> bool:
        """Adopt a postmaster that an earlier process left running; wait until it is ready.

        Returns False if there is none, or if it was stopping and has ended.
        """
        files, _ = self._claim()
        found = read_pid_file(files.data)
        if found is None or not is_postmaster(found.pid, files.data):
            return False
        self._child, self._pid = None, found.pid
        if found.status == "stopping":
            if not self._await_end(_STOP_SECONDS):
                raise EmbeddedPostgresError(f"PostgreSQL (process {found.pid}) does not stop.")
            return False
        self._await_ready(files, found.pid)
        return True

    def _await_ready(self, files: ClusterFiles, pid: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            state = read_pid_file(files.data)
            if state is not None and state.pid == pid and state.status == "ready":
                self._connectable(state)
                return
            if not self._alive():
                raise files.failure("PostgreSQL does not start", files.log_tail())
            time.sleep(_POLL_SECONDS)
        raise files.failure(
            f"PostgreSQL (process {pid}) is not ready after {_START_SECONDS} s", files.log_tail()
        )

    def _connectable(self, state: Postmaster) -> None:
        self._socket_dir, self._port = state.socket_dir, state.port

    def _remove_outside_socket(self) -> None:
        """Remove the socket's directory if it is in /tmp, where it did not fit into the home."""
        if self._socket_dir.parent != self._claim()[0].home:
            with contextlib.suppress(OSError):
                self._socket_dir.rmdir()

    def _alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        if self._pid is None:
            return False
        reap(self._pid)
        return is_postmaster(self._pid, self._claim()[0].data)

    def _signal(self, number: signal.Signals) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _await_end(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def _wait_for_orphans(files: ClusterFiles) -> None:
    """Wait until all backends of a killed postmaster have ended: they still use its memory.

    Most end at once. A backend in a long statement gets SIGQUIT after a while, which loses
    nothing, because its transaction cannot commit any more.
    """
    started = time.monotonic()
    signalled = False
    while remaining := orphans(files.cluster_name):
        waited = time.monotonic() - started
        if waited > _ORPHAN_SECONDS:
            raise EmbeddedPostgresError(
                f"Processes of a PostgreSQL that died still use {files.data}: "
                f"{', '.join(map(str, remaining))}. End them, then start again."
            )
        if waited > _ORPHAN_PATIENCE_SECONDS and not signalled:
            signalled = True
            for pid in remaining:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)
        time.sleep(_POLL_SECONDS)


def _remove_stale_locks(files: ClusterFiles) -> None:
    """Remove the lock files of a dead postmaster.

    PostgreSQL removes them itself, unless another process of its user has the old process id by
    now, or the old process is a zombie. At this point no process uses the data directory.
    """
    state = read_pid_file(files.data)
    if state is not None and is_postmaster(state.pid, files.data):
        raise EmbeddedPostgresError(f"Another PostgreSQL (process {state.pid}) uses {files.data}.")
    (files.data / PID_FILE).unlink(missing_ok=True)
    if state is not None:
        (state.socket_dir / f".s.PGSQL.{state.port}.lock").unlink(missing_ok=True)
