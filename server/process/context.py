"""The context that the supervisor passes to the processes it starts."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Final

import msgspec

from server.settings import LOGIN_URLS, Settings
from server.settings.environment import variable

CONTEXT: Final = "LEDGER_WORKER"
"""The environment variable that carries the context."""
WATCH_S: Final = 0.5


class ProcessContext(msgspec.Struct):
    """The settings of a process, its database, and the pid of its supervisor.

    ``login_url`` is the URL of the login that this process alone has, where it has one.
    """

    settings: Settings
    database_url: str
    supervisor: int
    login_url: str | None = None

    def encoded(self) -> str:
        """Return the value of the environment variable: ASCII for any bytes of paths and keys."""
        return json.dumps(msgspec.to_builtins(self, enc_hook=str))

    def environment(self) -> dict[str, str]:
        """Return the environment of the process: this one's without the logins of others."""
        logins = {variable(name) for name in LOGIN_URLS}
        own = {name: value for name, value in os.environ.items() if name not in logins}
        return {**own, CONTEXT: self.encoded()}

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
