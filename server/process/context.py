"""What the supervisor tells the processes it starts: settings, database, and itself."""

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
"""Environment variable by which the supervisor tells its processes what to be."""
WATCH_S: Final = 0.5


class ProcessContext(msgspec.Struct):
    """What a process of the server is told: its settings, its database and its supervisor."""

    settings: Settings
    database_url: str
    supervisor: int

    def spelled(self) -> str:
        """The value of the environment variable: ASCII, whatever bytes a path or a key has."""
        return json.dumps(msgspec.to_builtins(self, enc_hook=str))

    @classmethod
    def told(cls) -> ProcessContext:
        """What this process was told."""
        told = json.loads(os.environ[CONTEXT])
        return msgspec.convert(told, type=cls, dec_hook=lambda kind, value: kind(value))

    def follow(self) -> None:
        """End this process, in order, when its supervisor is gone."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while os.getppid() == self.supervisor:
            time.sleep(WATCH_S)
        os.kill(os.getpid(), signal.SIGTERM)
