"""The files of one cluster: creation by initdb, settings, logs, the socket's directory."""

import contextlib
import hashlib
import os
import shutil
import stat
from pathlib import Path

from server.embedded.account import ClusterAccount
from server.embedded.binaries import MAJOR_VERSION
from server.embedded.config import PORT, SOCKET_PATH_BYTES_MAX, server_settings
from server.embedded.errors import EmbeddedPostgresError
from server.embedded.home import ClusterHome
from server.settings.data_dir import sync_directory

SUPERUSER = "postgres"
_SETTINGS_NAME = "quire.conf"
_LOGS_KEPT = 10
_TAIL_LINES = 20
_TAIL_BYTES = 16 << 10


class ClusterFiles:
    """Paths below the cluster's home, and the files written there."""

    def __init__(self, home: ClusterHome) -> None:
        self._account: ClusterAccount = home.account
        self.home = home.path
        self.data = home.path / "data"
        self.log_dir = home.path / "log"
        self.startup_log = home.path / "startup.log"
        self.identity = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]
        self.cluster_name = f"quire-{self.identity}"

    def initialise(self, programs: Path) -> None:
        """Create the cluster if it does not exist: completely or not at all, even if it crashes.

        Raises EmbeddedPostgresError with the output of initdb.
        """
        if (self.data / "PG_VERSION").exists():
            self._require_version()
            return
        scratch = self.home / "data.new"
        shutil.rmtree(scratch, ignore_errors=True)
        self._initdb(programs, scratch)
        config = scratch / "postgresql.conf"
        self._account.write_file(
            config, f"{config.read_text(encoding='utf-8')}\ninclude '{_SETTINGS_NAME}'\n"
        )
        # initdb has synced its files. A crash here leaves only a scratch directory, which the
        # next start removes; after the rename the cluster exists.
        scratch.rename(self.data)
        sync_directory(self.home)

    def _initdb(self, programs: Path, scratch: Path) -> None:
        done = self._account.run(
            programs / "initdb",
            f"--pgdata={scratch}",
            f"--username={SUPERUSER}",
            "--data-checksums",
            "--encoding=UTF8",
            "--locale=C",
            "--auth-local=trust",
            "--auth-host=reject",
            cwd=self.home,
        )
        if done.returncode:
            shutil.rmtree(scratch, ignore_errors=True)
            raise self.failure("The database cannot be created", done.stdout + done.stderr)

    def _require_version(self) -> None:
        version = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        if version != str(MAJOR_VERSION):
            raise EmbeddedPostgresError(
                f"The database in {self.data} was made by PostgreSQL {version}, and this version of "
                f"quire has {MAJOR_VERSION}. Move it with pg_dump and pg_restore, or pg_upgrade."
            )

    def write_settings(self) -> None:
        """Write the settings of the next start: this machine's memory, the socket's directory."""
        text = server_settings(
            cluster_name=self.cluster_name, socket_dir=self._socket_dir(), log_dir=self.log_dir
        )
        self._account.write_file(self.data / _SETTINGS_NAME, text)

    def _socket_dir(self) -> Path:
        """Make and return a directory for the socket that only the account can enter.

        It is inside the home, or /tmp/quire-<hash> if the path is too long for a socket, has a
        comma, which separates hosts in a connection URL, or letters beyond ASCII, which are other
        bytes in another locale. XDG_RUNTIME_DIR is not used: it is removed when the user logs out.
        """
        directory = self.home / "socket"
        path = os.fsencode(directory / f".s.PGSQL.{PORT}")
        if len(path) > SOCKET_PATH_BYTES_MAX or b"," in path or not path.isascii():
            directory = Path("/tmp") / self.cluster_name  # noqa: S108 - checked right below
        self._account.make_directory(directory)
        status = directory.lstat()
        if (
            not stat.S_ISDIR(status.st_mode)
            or status.st_uid != self._account.uid
            or stat.S_IMODE(status.st_mode) & 0o077
        ):
            raise EmbeddedPostgresError(
                f"{directory} is not a directory that only the database's user can enter. "
                "Another user made it: remove it and start again."
            )
        return directory

    def prune_logs(self) -> None:
        """Keep the newest log files: PostgreSQL rotates by size and deletes nothing."""
        logs = sorted(self.log_dir.glob("postgresql-*.log"))
        for log in logs[:-_LOGS_KEPT]:
            with contextlib.suppress(OSError):
                log.unlink()

    def log_tail(self) -> str:
        """Return the last lines of PostgreSQL's log, for an error message."""
        newest = sorted(self.log_dir.glob("postgresql-*.log"))[-1:]
        lines: list[str] = []
        for log in [*newest, self.startup_log]:
            lines += _last_lines(log)
        return "\n".join(lines)

    def failure(self, problem: str, output: str) -> EmbeddedPostgresError:
        """Return an error with the place, the end of PostgreSQL's output, and advice on full disks."""
        full = "No space left on device" in output
        advice = " The disk is full: free some space and start again." if full else ""
        tail = "\n".join(f"  {line}" for line in output.strip().splitlines()[-_TAIL_LINES:])
        return EmbeddedPostgresError(
            f"{problem} in {self.home}.{advice} PostgreSQL's output:\n{tail}"
        )


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
    except OSError:
        return []
