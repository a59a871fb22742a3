"""The signer's process, kept running beside the workers.

It alone holds the log's signing keys. Appends do not wait for it, only checkpoints do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.process.child import kept_running
from server.settings import Settings


@contextmanager
def signing(settings: Settings, database_url: str) -> Iterator[None]:
    """Keep one signer running for as long as the block lasts; it is stopped in order after."""
    if not settings.checkpoints:
        yield
        return
    with kept_running("signer", "server.process.signer", settings, database_url):
        yield
