"""Starts the processes beside the workers: orders them from the fork server.

So a start does not import the same modules once for each of them, and they share their memory. The
context of a process goes to it through a socket and stands in no environment.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final

from server.process.children import fork_server
from server.process.children.context import ProcessContext
from server.process.children.forgetting import forget_logins
from server.process.children.fork_server import NUMBER
from server.settings.environment import variable

END_S: Final = 5.0
"""How long the end of the fork server is waited for; it has nothing to lose."""
_AGAIN: Final = """
import sys
from server.process.children import fork_server
fork_server.run(int(sys.argv[1]), int(sys.argv[2]))
"""
_lock = threading.Lock()
_orders: socket.socket | None = None
"""The socket of the running fork server; None if there is none, or it died."""
_alive: int | None = None
"""Open as long as this process lives; the other end shows the processes that it does."""
_pid: int | None = None


class ForkedProcess:
    """A started process. Its end is noticed through ``sentinel``, which can be waited for."""

    def __init__(self, report: int) -> None:
        self.sentinel = report
        pid = _read(report)
        if pid is None:
            os.close(report)
            raise EOFError("the fork server could not start a process")
        self.pid = pid
        self.exitcode: int | None = None
        """The exit code once it has ended: that of a signal if the fork server ended before it."""

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        self.join(0)
        return self.exitcode is None

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for its end."""
        if self.exitcode is None and wait([self.sentinel], timeout_s):
            code = _read(self.sentinel)
            self.exitcode = -signal.SIGKILL if code is None else code
            os.close(self.sentinel)

    def terminate(self) -> None:
        """Tell the process to stop."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


@contextmanager
def fork_server_running() -> Iterator[None]:
    """Fork the fork server, before this process has anything that it must not have; end it afterwards."""
    orders, alive = _open()
    if (pid := os.fork()) == 0:
        _be_fork_server(orders, alive)
    _close_theirs(pid, orders, alive)
    try:
        yield
    finally:
        _end()


def start(name: str, module: str, context: ProcessContext) -> ForkedProcess:
    """Start ``main`` of the module in a process that is called quire-NAME.

    Raises OSError or EOFError if it can't be started now.
    """
    order = json.dumps(
        {
            "name": name,
            "module": module,
            "context": context.encoded(),
            "environ": dict(os.environ),
        }
    ).encode()
    report, theirs = os.pipe()
    try:
        _send(order, theirs)
    except BaseException:
        os.close(report)
        raise
    finally:
        os.close(theirs)
    return ForkedProcess(report)


def _send(order: bytes, report: int) -> None:
    """Send an order; a fork server that died gets a successor."""
    with _lock:
        if _orders is not None:
            try:
                socket.send_fds(_orders, [order], [report])
            except (BrokenPipeError, ConnectionError):
                _end()
            else:
                return
        _start_another()
        assert _orders is not None
        socket.send_fds(_orders, [order], [report])


def _start_another() -> None:
    """Start an interpreter: this process has threads and keys, and can't be forked any more."""
    orders, alive = _open()
    passed = orders.fileno(), alive
    try:
        another = subprocess.Popen(
            [sys.executable, "-c", _AGAIN, *map(str, passed)], pass_fds=passed
        )
    except BaseException:
        _end()
        orders.close()
        os.close(alive)
        raise
    _close_theirs(another.pid, orders, alive)


def _open() -> tuple[socket.socket, int]:
    """Make the socket of the orders and the pipe; return their other ends."""
    global _orders, _alive
    _orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _orders.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, fork_server.ORDER_BYTES)
    alive, _alive = os.pipe()
    return theirs, alive


def _close_theirs(pid: int, orders: socket.socket, alive: int) -> None:
    global _pid  # noqa: PLW0603 - one of each process
    _pid = pid
    orders.close()
    os.close(alive)


def _be_fork_server(orders: socket.socket, alive: int) -> None:
    """Be the fork server in this fork, to its end."""
    try:
        assert _orders is not None
        assert _alive is not None
        _orders.close()
        os.close(_alive)
        forget_logins()
        fork_server.run(orders.detach(), alive)
    except BaseException:  # noqa: BLE001 - nothing may return into the supervisor's work
        traceback.print_exc()
    finally:
        os._exit(1)


def _end() -> None:
    """Close this end of everything: the fork server ends, and with it what it started."""
    global _orders, _alive, _pid
    if _orders is not None:
        _orders.close()
    if _alive is not None:
        os.close(_alive)
    pid, _orders, _alive, _pid = _pid, None, None, None
    if pid is not None:
        _reap(pid)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        watched = os.pidfd_open(pid)
        try:
            if not wait([watched], END_S):
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(watched)
        os.waitpid(pid, 0)


def _read(report: int) -> int | None:
    """Read a number from the fork server; None if it ended before it said one."""
    said = os.read(report, NUMBER.size)
    return NUMBER.unpack(said)[0] if len(said) == NUMBER.size else None


def set_environment(data_dir: Path) -> None:
    """Set what all processes of this server inherit; before the first one is started.

    No login of the database, and the directory by which a process is found. They import from the same
    places as this one: without PYTHONSAFEPATH also from the directory in which the server was started.
    """
    forget_logins()
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    os.environ[variable("data_dir")] = str(data_dir)
