"""PgBouncer before a private cluster, as a child of the test.

Debian 12's PgBouncer (1.18) is found on the PATH; PGBOUNCER names another one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.storage.provision import LOGINS
from server.embedded import OWNER_ROLE, SERVER_ROLE, SUPERUSER
from tests.support.clusters import Database, OwnCluster, _free_port

START_S = 20.0


@contextmanager
def pgbouncer(cluster: OwnCluster, mode: str, **options: str) -> Iterator[Database]:
    """The cluster's database `quire`, reached through a pooler in this mode."""
    program = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    assert program is not None, "the tests need PgBouncer (Debian: apt-get install pgbouncer)"
    port = _free_port()
    config = _configure(cluster, port, {"pool_mode": mode, **options})
    user = "nobody" if os.geteuid() == 0 else None  # PgBouncer refuses to run as root
    log = config.with_suffix(".log").open("ab")
    with (
        log,
        subprocess.Popen([program, str(config)], stdout=log, stderr=log, user=user) as process,
    ):
        try:
            _await_port(process, port, Path(log.name))
            address = f"127.0.0.1:{port}/quire"
            roles = (OWNER_ROLE, SERVER_ROLE, SUPERUSER)
            yield Database("quire", *(f"postgresql://{role}@{address}" for role in roles))
        finally:
            process.terminate()
            process.wait(START_S)


def _configure(cluster: OwnCluster, port: int, options: dict[str, str]) -> Path:
    # Below the session's directory, which other accounts may enter.
    config = cluster.postgres.data.parent.parent / f"pgbouncer-{port}.ini"
    users = config.with_suffix(".users")
    users.write_text("".join(f'"{role}" ""\n' for role in (OWNER_ROLE, *LOGINS, SUPERUSER)))
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "auth_type": "trust",
        "auth_file": str(users),
        "unix_socket_dir": "",
        **options,
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    target = f"* = host=127.0.0.1 port={cluster.port}"
    config.write_text("\n".join(["[databases]", target, "[pgbouncer]", *lines, ""]))
    for path in (config, users):
        path.chmod(0o644)
    return config


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, f"PgBouncer ended:\n{log.read_text()}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"PgBouncer does not listen:\n{log.read_text()}"
            time.sleep(0.02)
        else:
            return
