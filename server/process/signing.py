"""The signer's process, kept running beside the workers.

Only this process holds the private log keys. Checkpoints wait for it, appends do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.process.child import kept_running
from server.settings import Settings


@contextmanager
def signing(settings: Settings, database_url: str) -> Iterator[None]:
    """Keep one signer running while the block runs; stop it in order afterwards."""
    if not settings.checkpoints:
        yield
        return
    with kept_running("signer", "server.process.signer", settings, database_url):
        yield
