"""The archiver's process, kept running beside the workers, and what it archives by.

It needs the signing keys of entries, which it checks, and none of the log's. Neither appends
nor checkpoints wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ledger.archive.targets import Target, TargetSettings, open_target
from ledger.archive.writing.puts import Policy
from server.child import kept_running
from server.settings import Settings


@contextmanager
def archiving(settings: Settings, database_url: str) -> Iterator[None]:
    """Keep one archiver running for as long as the block lasts; it is stopped in order after."""
    if settings.archive_target is None:
        yield
        return
    with kept_running("archiver", "server.archiver", settings, database_url):
        yield


def target_settings(settings: Settings) -> TargetSettings:
    """How the target is reached."""
    return TargetSettings(s3_endpoint=settings.archive_s3_endpoint)


def named_target(settings: Settings, url: str) -> Target:
    """The target of a URL, not yet connected. Raises ArchiveMisconfigured."""
    return open_target(url, target_settings(settings))


def policy_of(settings: Settings) -> Policy:
    """How long what is stored is locked for."""
    return Policy(settings.archive_retain_days, settings.archive_legal_hold)
