"""The sequencer: gives every event its seq, with one commit per org at a time.

``lane`` queues the requests of one org, ``batch`` runs one transaction for many
orgs, ``head_check`` refuses to extend a damaged trail, ``sequencer`` ties them together.
"""

from ledger.core.sequencer.heads.acknowledged import (
    HEADS_FILE,
    AcknowledgedHeads,
    ForeignHeads,
    HeadMemoryUnavailable,
)
from ledger.core.sequencer.lane import SeenHead
from ledger.core.sequencer.limits import (
    COMMITTERS,
    BatchReport,
    SequencerHooks,
    SequencerLimits,
)
from ledger.core.sequencer.request import (
    AcceptedLoss,
    Appended,
    AppendRequest,
    Effect,
    EntryPlace,
    KeyDigest,
    Permit,
    RowEffect,
    StaleKey,
    StaleSeal,
)
from ledger.core.sequencer.sequencer import Sequencer

__all__ = [
    "COMMITTERS",
    "HEADS_FILE",
    "AcceptedLoss",
    "AcknowledgedHeads",
    "AppendRequest",
    "Appended",
    "BatchReport",
    "Effect",
    "EntryPlace",
    "ForeignHeads",
    "HeadMemoryUnavailable",
    "KeyDigest",
    "Permit",
    "RowEffect",
    "SeenHead",
    "Sequencer",
    "SequencerHooks",
    "SequencerLimits",
    "StaleKey",
    "StaleSeal",
]
