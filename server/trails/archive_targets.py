"""The archive target and the object locks that the settings name."""

from __future__ import annotations

from ledger.archive.targets import Target, TargetSettings, open_target
from ledger.archive.writing.object_writer import ObjectLock
from server.settings import Settings


def target_settings(settings: Settings) -> TargetSettings:
    """Return the connection settings of the target."""
    return TargetSettings(s3_endpoint=settings.archive_s3_endpoint)


def named_target(settings: Settings, url: str) -> Target:
    """Return the target of a URL, not yet connected. Raises ArchiveMisconfigured."""
    return open_target(url, target_settings(settings))


def policy_of(settings: Settings) -> ObjectLock:
    """Return how long, and whether by legal hold, stored objects are locked."""
    return ObjectLock(settings.archive_retain_days, settings.archive_legal_hold)
