"""The checkpointer: follows every trail, keeps its tree, signs what it found right."""

from ledger.core.checkpointing.anchoring import AnchoringStopped
from ledger.core.checkpointing.checkpointer import Checkpointer, Pace, RoundReport
from ledger.core.checkpointing.doubt import Doubt
from ledger.core.checkpointing.memory import MEMORY_FILE, Memory, MemoryUnavailable, log_of, recall

__all__ = [
    "MEMORY_FILE",
    "AnchoringStopped",
    "Checkpointer",
    "Doubt",
    "Memory",
    "MemoryUnavailable",
    "Pace",
    "RoundReport",
    "log_of",
    "recall",
]
