"""The archiver's process, kept running beside the workers.

It needs the signing keys of entries, with which it checks them, and none of the log keys. Neither
appends nor checkpoints wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.process.children.child import kept_running
from server.settings import Settings


@contextmanager
def archiving(settings: Settings, database_url: str) -> Iterator[None]:
    """Keep one archiver running while the block runs; stop it in order afterwards."""
    if settings.archive_target is None:
        yield
        return
    with kept_running("archiver", "server.process.archiver", settings, database_url):
        yield
