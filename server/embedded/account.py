"""The system account that runs PostgreSQL, which refuses to run as root."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from server.embedded.errors import EmbeddedPostgresError

SYSTEM_USER = "pgserver"
_COMMAND_SECONDS = 300


def _environment() -> dict[str, str]:
    """Return only the variables that the child needs: the server's environment holds its keys."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class ClusterAccount:
    """The user that owns the cluster. `switch`: this process is root and has to switch to it."""

    uid: int
    gid: int
    switch: bool

    @classmethod
    def current(cls) -> Self:
        return cls(os.geteuid(), os.getegid(), switch=False)

    @classmethod
    def system(cls) -> Self:
        """Return the account that root switches to; create it if it is missing."""
        try:
            entry = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            _create_system_user()
            entry = pwd.getpwnam(SYSTEM_USER)
        return cls(entry.pw_uid, entry.pw_gid, switch=True)

    @classmethod
    def owner_of(cls, path: Path) -> Self:
        """As root, return the account that made an existing cluster."""
        status = path.stat()
        return cls(status.st_uid, status.st_gid, switch=True)

    def run(
        self, *command: str | Path, cwd: Path = Path("/"), text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end with `text` as its input; never raises on its exit code."""
        return subprocess.run(
            command,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
            env=_environment(),
            cwd=cwd,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # paths are bytes, and a locale changes nothing here
            umask=0o077,
            timeout=_COMMAND_SECONDS,
            check=False,
        )

    def spawn(self, *command: str | Path, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a long-running child in its own session, with its output in `log`.

        The shell opens the log as the account itself, so root never writes through a path that
        the account controls, and `exec` keeps the process id.
        """
        redirect = 'log=$1; shift; exec "$@" >"$log" 2>&1'
        return subprocess.Popen(
            ["/bin/sh", "-c", redirect, "sh", log, *command],
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
            env=_environment(),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            umask=0o077,
            start_new_session=True,  # Ctrl-C in a terminal is for quire, which stops PostgreSQL
        )

    def can_enter(self, directory: Path) -> bool:
        return self.run("/bin/sh", "-c", 'test -x "$1"', "sh", directory).returncode == 0

    def can_run(self, program: Path) -> bool:
        try:
            return self.run(program, "--version").returncode == 0
        except OSError:
            return False

    def write_file(self, path: Path, content: str) -> None:
        """Write a file as the account, readable to it alone. Raises EmbeddedPostgresError."""
        done = self.run("/bin/sh", "-c", 'cat >"$1"', "sh", path, text=content)
        if done.returncode:
            raise EmbeddedPostgresError(f"{path} cannot be written: {done.stderr.strip()}")

    def make_directory(self, path: Path) -> None:
        """Make a directory that only the account can enter. Raises EmbeddedPostgresError."""
        done = self.run("mkdir", "-p", "-m", "0700", path)
        if done.returncode:
            raise EmbeddedPostgresError(f"{path} cannot be created: {done.stderr.strip()}")


def _create_system_user() -> None:
    command = ["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace")
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise EmbeddedPostgresError(
            f'PostgreSQL does not run as root, and the system user "{SYSTEM_USER}" cannot be '
            f"created: {detail.strip()}. Run the server as an ordinary user, or create that user."
        ) from error
