"""The sequencer: gives every event its place, one commit per org at a time.

``lane`` holds what waits for one org, ``batch`` runs one transaction for many
orgs, ``head_check`` is what makes it fail closed, ``sequencer`` ties them together.
"""

from ledger.core.sequencer.request import (
    Appended,
    AppendRequest,
    Effect,
    EntryPlace,
    KeyDigest,
    StaleSeal,
)
from ledger.core.sequencer.sequencer import COMMITTERS, BatchReport, Sequencer, SequencerLimits

__all__ = [
    "COMMITTERS",
    "AppendRequest",
    "Appended",
    "BatchReport",
    "Effect",
    "EntryPlace",
    "KeyDigest",
    "Sequencer",
    "SequencerLimits",
    "StaleSeal",
]
