"""The sequencer: gives every event its seq, with one commit per org at a time.

``lane`` queues the requests of one org, ``batch`` runs one transaction for many
orgs, ``head_check`` refuses to extend a damaged trail, ``sequencer`` ties them together.
"""

from ledger.core.sequencer.lane import SeenHead
from ledger.core.sequencer.request import (
    Appended,
    AppendRequest,
    Effect,
    EntryPlace,
    KeyDigest,
    StaleSeal,
)
from ledger.core.sequencer.sequencer import (
    COMMITTERS,
    BatchReport,
    Sequencer,
    SequencerHooks,
    SequencerLimits,
)

__all__ = [
    "COMMITTERS",
    "AppendRequest",
    "Appended",
    "BatchReport",
    "Effect",
    "EntryPlace",
    "KeyDigest",
    "SeenHead",
    "Sequencer",
    "SequencerHooks",
    "SequencerLimits",
    "StaleSeal",
]
