"""The checkpointer: follows every trail, keeps its tree, signs what it found right."""

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
