"""Ends a process by kill -9 at a step of what it writes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from ledger.storage.trail import AppendTransaction


class Steps:
    """Ends this process by kill -9 at a step: before or after a statement or COMMIT."""

    def __init__(self, number: int) -> None:
        self._left = number

    def step(self) -> None:
        """Count a step."""
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def count(self) -> None:
        """Count the steps of append transactions from here on."""
        for name in ("run", "commit", "change_at_once"):
            self._around(name)

    def _around(self, name: str) -> None:
        original = getattr(AppendTransaction, name)

        async def counted(*args: Any) -> Any:
            self.step()
            result = await original(*args)
            self.step()
            return result

        setattr(AppendTransaction, name, counted)


def in_child(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run work in a forked process; return its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(work())
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
