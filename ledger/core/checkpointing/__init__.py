"""The checkpointer: checks the new entries of every trail, extends its tree, signs checkpoints."""

from ledger.core.checkpointing.anchoring import AnchoringStopped
from ledger.core.checkpointing.checkpointer import Checkpointer, RoundLimits, RoundReport
from ledger.core.checkpointing.doubt import SigningDoubt
from ledger.core.checkpointing.memory import (
    MEMORY_FILE,
    SignerMemory,
    SignerMemoryUnavailable,
    log_of,
    recall,
)

__all__ = [
    "MEMORY_FILE",
    "AnchoringStopped",
    "Checkpointer",
    "RoundLimits",
    "RoundReport",
    "SignerMemory",
    "SignerMemoryUnavailable",
    "SigningDoubt",
    "log_of",
    "recall",
]
