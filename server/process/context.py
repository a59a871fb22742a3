"""The context that the supervisor passes to the processes it starts."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Final

import msgspec

from server.settings import Settings

CONTEXT: Final = "LEDGER_WORKER"
"""The environment variable that carries the context."""
WATCH_S: Final = 0.5


class ProcessContext(msgspec.Struct):
    """The settings of a process, its database, and the pid of its supervisor."""

    settings: Settings
    database_url: str
    supervisor: int

    def encoded(self) -> str:
        """Return the value of the environment variable: ASCII for any bytes of paths and keys."""
        return json.dumps(msgspec.to_builtins(self, enc_hook=str))

    @classmethod
    def from_environment(cls) -> ProcessContext:
        """Return the context of this process."""
        document = json.loads(os.environ[CONTEXT])
        return msgspec.convert(document, type=cls, dec_hook=lambda kind, value: kind(value))

    def follow(self) -> None:
        """End this process, in order, when its supervisor has ended."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while os.getppid() == self.supervisor:
            time.sleep(WATCH_S)
        os.kill(os.getpid(), signal.SIGTERM)
