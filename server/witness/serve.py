"""`quire witness serve`: one process, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, cast

import structlog
import uvicorn

from ledger.core.clock import SECOND_US, WallClock
from server.http.protocol.factory import ProtocolFactory
from server.http.protocol.listening import address, listen
from server.http.protocol.open_files import raise_limit
from server.http.protocol.watching.limits import ConnectionLimits
from server.refusal import StartupRefused
from server.settings.data_dir import concerns
from server.witness.app import WitnessApp
from server.witness.cosigner import Cosigner
from server.witness.heads import WitnessHeads
from server.witness.home import WitnessDirectory, load_keys, load_logs

log = structlog.get_logger("quire.witness")

LIMITS: Final = ConnectionLimits(connections=1_024, per_address=256, reserve=0, patience_s=10.0)
"""Submissions are small. A submission waits for the one thread that checks them."""
SHUTDOWN_S: Final = 10


def serve(
    directory: Path, host: str, port: int, announce: Callable[[str], None] = lambda _line: None
) -> None:
    """Serve the witness of a directory; call ``announce`` with its name and address once it listens.

    Raises StartupRefused.
    """
    home = WitnessDirectory(directory)
    signers, logs = load_keys(home), load_logs(home)
    origins = {log.verifier.name for log in logs.logs}
    if not origins:
        raise StartupRefused(
            f"{home.logs} lists no log, so there is nothing to witness. Add a line for each key "
            "of a log: log VKEY"
        )
    for concern, command in concerns(directory, "the witness's directory"):
        log.warning(concern, command=command)
    raise_limit(LIMITS.connections, "ask your system for more.")
    with closing(listen(host, port)) as listener, closing(WitnessHeads(home.heads)) as heads:
        app = WitnessApp(Cosigner(logs, signers, heads, _seconds(WallClock())), origins)
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=cast("type[asyncio.Protocol]", ProtocolFactory(LIMITS)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        logs_served = "1 log" if len(origins) == 1 else f"{len(origins)} logs"
        announce(f"Witness {signers[0].name} of {logs_served} on {address(listener)}")
        # uvicorn drains, then raises the signal again, which must not kill the process at once.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with closing(app), contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _seconds(clock: WallClock) -> Callable[[], int]:
    """Return a clock in POSIX seconds. It raises ClockUnsteady: a cosigned time is permanent."""
    return lambda: clock() // SECOND_US
