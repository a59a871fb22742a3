"""Where trails are archived, and for how long the objects are locked, by the settings."""

from __future__ import annotations

from ledger.archive.targets import Target, TargetSettings, open_target
from ledger.archive.writing.object_writer import ObjectLock
from server.settings import Settings


def target_settings(settings: Settings) -> TargetSettings:
    """How the target is reached."""
    return TargetSettings(s3_endpoint=settings.archive_s3_endpoint)


def named_target(settings: Settings, url: str) -> Target:
    """The target of a URL, not yet connected. Raises ArchiveMisconfigured."""
    return open_target(url, target_settings(settings))


def policy_of(settings: Settings) -> ObjectLock:
    """How long what is stored is locked for."""
    return ObjectLock(settings.archive_retain_days, settings.archive_legal_hold)
