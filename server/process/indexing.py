"""The process that builds the search index, kept running beside the workers.

It needs the master key, of which the key of the index is derived, and no signing key. Neither
appends nor searches wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.process.child import kept_running
from server.settings import Settings


@contextmanager
def indexing(settings: Settings, database_url: str) -> Iterator[None]:
    """Keep one indexer running while the block runs; stop it in order afterwards."""
    with kept_running("indexer", "server.process.indexer", settings, database_url):
        yield
