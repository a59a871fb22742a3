"""Where the rows of a trail are that left the database."""

from __future__ import annotations

import msgspec

from ledger.archive.targets import TargetSettings


class ArchiveAt(msgspec.Struct, frozen=True):
    """Where the archive is, and the seq at which the entries in the database begin."""

    url: str
    settings: TargetSettings = TargetSettings()
    live_from: int = 0
