"""What a verification of an archive finds: faults located to their object, and the verdict."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from ledger.verdict import NOT_CHECKED, Check, Verdict, combine, unchecked

FAULTS_MAX: Final = 1_000
"""Faults that are listed; all are counted."""
CHECKS: Final = (
    "checkpoint",
    "tree",
    "payloads",
    "signatures",
    "history",
    "anchors",
    "external_time",
    "witnesses",
    "database",
    "keys",
)
_OF_ENTRIES: Final = frozenset({"tree", "payloads", "signatures"})
ALWAYS_ASKED: Final = ("checkpoint", "tree", "history", "keys")
"""What every archive is asked for; a trail's is asked for payloads and anchors too."""


class ArchiveFault(msgspec.Struct, frozen=True):
    """One thing wrong with an archive: under which key, which check it fails, and why."""

    key: str
    check: str
    reason: str


class ArchiveVerdict(msgspec.Struct, frozen=True):
    """Whether an archive is right; what was not looked at reads ``not_checked``.

    ``checkpoint``: signed by the log's key. ``tree``: every tile and leaf belongs to its root.
    ``payloads``: those that the leaves say, for every entry. ``signatures``: the entries', which
    takes their keys. ``history``: every checkpoint is signed, and consistent with the tree.
    ``anchors``: the log of all checkpoints is right and commits to those of the history.
    ``external_time`` and ``witnesses``: what others attested of anchors. ``database``: the live
    one holds the same. ``keys``: the log's keys are those that were pinned. ``asked`` names the
    checks without which the verdict is incomplete. ``unanchored`` counts checkpoints of which nothing archived says where an
    anchor covers them: not yet, or never where that was lost.
    """

    org: str
    size: int
    objects: int
    bytes: int
    entries: int
    checkpoint: Check
    tree: Check
    payloads: Check
    signatures: Check
    history: Check
    anchors: Check
    external_time: Check
    witnesses: Check
    database: Check
    keys: Check
    asked: tuple[str, ...]
    verdict: Verdict
    unanchored: int
    fault_count: int
    faults: tuple[ArchiveFault, ...]
    warnings: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Everything that was asked for was checked and holds."""
        return self.verdict.valid

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The checks that were asked for and not made."""
        return unchecked({check: getattr(self, check) for check in CHECKS}, self.asked)


class ArchiveFindings:
    """Faults and counts as they come."""

    def __init__(self) -> None:
        self.faults: list[ArchiveFault] = []
        self.count = 0
        self.failed: set[str] = set()
        self.checked: set[str] = set()
        self.bytes = 0
        self.entries = 0
        self.objects = 0
        self.unanchored = 0
        self.overdue = 0
        """Newest checkpoints that an archived anchor must cover, of which no place is archived."""
        self.newest = 0
        """The largest size that an object of the archive belongs to."""
        self.behind = False
        """Checkpoints lie there that are larger than the one that was verified."""
        self.warnings: list[str] = []

    def fault(self, key: str, check: str, reason: str) -> None:
        """Keep one; the first of them by their words, all by their number."""
        self.add([ArchiveFault(key, check, reason)])

    def add(self, faults: list[ArchiveFault] | tuple[ArchiveFault, ...], count: int = 0) -> None:
        """Keep several, of which ``count`` were found (as many as are listed, if more)."""
        self.faults += faults[: FAULTS_MAX - len(self.faults)]
        self.count += max(count, len(faults))
        self.failed.update(fault.check for fault in faults)

    def verdict(self, org: str, size: int, asked: Collection[str]) -> ArchiveVerdict:
        """The verdict on what was found; a check in ``asked`` that was not made leaves it incomplete."""
        checks = {check: self._of(check, size) for check in CHECKS}
        return ArchiveVerdict(
            org=org,
            size=size,
            objects=self.objects,
            bytes=self.bytes,
            entries=self.entries,
            unanchored=self.unanchored,
            fault_count=self.count,
            faults=tuple(self.faults),
            warnings=tuple(self.warnings),
            asked=tuple(check for check in CHECKS if check in asked),
            verdict=combine(checks, asked, fault_count=self.count),
            **checks,
        )

    def _of(self, check: str, size: int) -> Check:
        if check in self.failed:
            return False
        if check in _OF_ENTRIES and self.entries < size:
            return NOT_CHECKED  # some entries were not found where the tree has them
        if check == "checkpoint" and self.behind:
            return NOT_CHECKED
        if check == "anchors" and self.overdue:
            return NOT_CHECKED
        return True if check in self.checked else NOT_CHECKED
