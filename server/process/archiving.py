"""The archiver's process, kept running beside the workers.

It needs the signing keys of entries, which it checks, and none of the log's. Neither appends
nor checkpoints wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.process.child import kept_running
from server.settings import Settings


@contextmanager
def archiving(settings: Settings, database_url: str) -> Iterator[None]:
    """Keep one archiver running for as long as the block lasts; it is stopped in order after."""
    if settings.archive_target is None:
        yield
        return
    with kept_running("archiver", "server.process.archiver", settings, database_url):
        yield
