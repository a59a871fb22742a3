"""The bounds of a sequencer, and what it calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ledger.core.sequencer.committing.mishaps import OnMishap
from ledger.core.sequencer.lane import SeenHead

COMMITTERS: Final = 2
"""Transactions that one process runs at a time, each on its own connection."""


class SequencerLimits(NamedTuple):
    """Bounds of one sequencer: how much may wait, and how much one transaction takes."""

    org_events: int = 50_000
    org_bytes: int = 64 * 2**20
    total_bytes: int = 512 * 2**20
    batch_events: int = 10_000
    batch_bytes: int = 32 * 2**20
    batch_orgs: int = 512
    committers: int = COMMITTERS
    retry_s: float = 15.0


class BatchReport(NamedTuple):
    """One committed transaction, for metrics and logs."""

    entries: int
    orgs: int
    seconds: float
    frozen: list[tuple[str, str]]


class SequencerHooks(NamedTuple):
    """What a sequencer calls: ``observe`` after each commit, ``on_head`` with each head that a commit
    left or met, ``on_mishap`` for each exception that would have ended a committer.
    """

    observe: Callable[[BatchReport], None] | None = None
    on_mishap: OnMishap | None = None
    on_head: Callable[[SeenHead], None] | None = None
