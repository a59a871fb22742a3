"""The findings of an archive's verification: faults with their objects, and the verdict."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from ledger.verdict import NOT_CHECKED, Check, Verdict, combine, unchecked

FAULTS_MAX: Final = 1_000
"""The most faults that are listed; all are counted."""
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
"""The checks that are required of every archive; a trail's also needs payloads and anchors."""


class ArchiveFault(msgspec.Struct, frozen=True):
    """A fault of an archive: the object's key, the check that it fails, and the reason."""

    key: str
    check: str
    reason: str


class ArchiveVerdict(msgspec.Struct, frozen=True):
    """The verdict on an archive; a check that was not made reads ``not_checked``.

    ``checkpoint``: the log's key signed it. ``tree``: every tile and leaf belongs to its root.
    ``payloads``: every entry's payload has the digest in its leaf. ``signatures``: the entries'
    signatures are valid, which takes their keys. ``history``: every checkpoint is signed and
    consistent with the tree. ``anchors``: the anchor log is valid and commits to the checkpoints
    of the history. ``external_time`` and ``witnesses``: the anchors' timestamps and cosignatures
    are valid. ``database``: the live database holds the same. ``keys``: the log's keys are the
    pinned ones. ``asked`` names the checks without which the verdict is incomplete.
    ``unanchored`` counts checkpoints without an archived leaf in the anchor log: not anchored
    yet, or their leaves were lost.
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
        """Whether every required check was made and holds."""
        return self.verdict.valid

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The required checks that were not made."""
        return unchecked({check: getattr(self, check) for check in CHECKS}, self.asked)


class ArchiveFindings:
    """Collects faults and counts during a verification."""

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
        """Newest checkpoints that an archived anchor must cover, but without an archived leaf."""
        self.newest = 0
        """The largest size that an object of the archive belongs to."""
        self.behind = False
        """Whether the archive has checkpoints larger than the verified one."""
        self.lacking = 0
        """Entries whose signing key this machine lacks."""
        self.warnings: list[str] = []

    def fault(self, key: str, check: str, reason: str) -> None:
        """Add a fault; the first FAULTS_MAX are listed, all are counted."""
        self.add([ArchiveFault(key, check, reason)])

    def add(self, faults: list[ArchiveFault] | tuple[ArchiveFault, ...], count: int = 0) -> None:
        """Add listed faults, of which there were ``count`` in all, or as many as are listed."""
        self.faults += faults[: FAULTS_MAX - len(self.faults)]
        self.count += max(count, len(faults))
        self.failed.update(fault.check for fault in faults)

    def verdict(self, org: str, size: int, asked: Collection[str]) -> ArchiveVerdict:
        """Return the verdict; a check in ``asked`` that was not made leaves it incomplete."""
        checks = {check: self._of(check, size) for check in CHECKS}
        if self.lacking:
            self.warnings.append(
                f"the keyring of this machine lacks the keys of {self.lacking} entries, whose "
                "signatures are not checked. Add them with: quire keys signing add --import FILE"
            )
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
            return NOT_CHECKED  # some entries were not found at their index in the tree
        if check == "signatures" and self.lacking:
            return NOT_CHECKED
        if check == "checkpoint" and self.behind:
            return NOT_CHECKED
        if check == "anchors" and self.overdue:
            return NOT_CHECKED
        return True if check in self.checked else NOT_CHECKED
