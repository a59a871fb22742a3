"""The signer's process, kept running beside the workers.

Only this process holds the private log keys, and only it has the signer's login to the database.
Checkpoints wait for it, appends do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.process.children.child import kept_running
from server.settings import Settings


@contextmanager
def signing(settings: Settings, signer_url: str | None) -> Iterator[None]:
    """Keep one signer running while the block runs, if there is a login for it; stop it in order."""
    if signer_url is None:
        yield
        return
    with kept_running("signer", "server.process.signer", settings, signer_url):
        yield
