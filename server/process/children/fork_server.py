"""The fork server: a process that has imported everything, and forks the processes beside the workers.

It is forked from the supervisor before that has threads, keys, connections or settings; once it
died, its successor is an interpreter of its own. It reads orders from a socket until the
supervisor's end of it is closed, and says over a pipe for each process its id, and at last its exit
code: two integers of four bytes.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from server.process.children import context

MODULES: Final = tuple(
    f"server.process.{name}" for name in ("signer", "archiver", "indexer", "retention")
)
"""The modules of the processes that are started so; each has its ``main``."""
NUMBER: Final = struct.Struct("=i")
ORDER_BYTES: Final = 1 << 20
"""The largest order, which has settings and environment of a process."""


def run(orders: int, supervisor: int) -> None:
    """Fork processes until no more orders can come; then end this process.

    ``orders`` is the socket of the orders, ``supervisor`` the reading end of a pipe whose other end
    the supervisor has as long as it lives.
    """
    os.setsid()
    _name("forks")
    for number in (signal.SIGINT, signal.SIGTERM):  # of all processes of a terminal or a service
        signal.signal(number, signal.SIG_IGN)
    for module in (*MODULES, "server.cli.main"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # the processes share these objects' memory
    _ForkServer(socket.socket(fileno=orders), supervisor).serve()
    os._exit(0)


class _ForkServer:
    def __init__(self, orders: socket.socket, supervisor: int) -> None:
        self._orders = orders
        self._supervisor = supervisor
        self._reports: dict[int, int] = {}
        """The pipe of each running process, by its id."""
        self._ended, ended = os.pipe()
        for end in (self._ended, ended):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ended, warn_on_full_buffer=False)
        self._wakeup = ended

    def serve(self) -> None:
        orders = self._orders.fileno()
        while True:
            ready, _, _ = select.select([orders, self._ended], [], [])
            if self._ended in ready:
                with suppress(BlockingIOError):
                    os.read(self._ended, 4_096)
                self._report_ends()
            if orders in ready:
                order, pipes, _, _ = socket.recv_fds(self._orders, ORDER_BYTES, 1)
                if not pipes:
                    return
                self._start(order, pipes[0])

    def _start(self, order: bytes, report: int) -> None:
        try:
            pid = os.fork()
        except OSError:  # no memory, or too many processes: the supervisor tries again
            os.close(report)
            return
        if pid == 0:
            self._become(json.loads(order))
        self._reports[pid] = report
        _say(report, pid)

    def _report_ends(self) -> None:
        with suppress(ChildProcessError):
            while (end := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = end
                report = self._reports.pop(pid)
                _say(report, os.waitstatus_to_exitcode(status))
                os.close(report)

    def _become(self, order: dict[str, Any]) -> None:
        """Be the ordered process in this fork, to its end."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._orders.close()
            for end in (self._ended, self._wakeup, *self._reports.values()):
                os.close(end)
            # A group of its own: the Ctrl-C of a terminal goes to the supervisor, which stops it.
            os.setsid()
            _name(order["name"])
            os.environ.clear()
            os.environ.update(order["environ"])
            context.set_supervisor(self._supervisor)
            main = importlib.import_module(order["module"]).main
            main(context.ProcessContext.decoded(order["context"]))
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - nothing may return into the fork server's loop
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _say(report: int, number: int) -> None:
    with suppress(BrokenPipeError):  # the supervisor is gone
        os.write(report, NUMBER.pack(number))


def _name(name: str) -> None:
    with suppress(OSError):  # there is no such file outside of Linux
        Path("/proc/self/comm").write_text(f"quire-{name}")
