"""The register: what the rows that decide must say now, folded from the trail of the org `system`."""

from ledger.core.register.blocks import RecordedBlocks
from ledger.core.register.changes import (
    API_KEYS,
    BLOCKS,
    ORG_LIMITS,
    ORGS,
    Change,
    ChangeKind,
    FaultSeqs,
    RecordedBlock,
    erased_id,
)
from ledger.core.register.refusals import RegisterBehind, RegisterCut, RegisterMissing
from ledger.core.register.register import Register
from ledger.core.register.reports import NOT_AUTHENTIC, ForgedRowReports
from ledger.core.register.state import RecordedFreeze, RegisterState

__all__ = [
    "API_KEYS",
    "BLOCKS",
    "NOT_AUTHENTIC",
    "ORGS",
    "ORG_LIMITS",
    "Change",
    "ChangeKind",
    "FaultSeqs",
    "ForgedRowReports",
    "RecordedBlock",
    "RecordedBlocks",
    "RecordedFreeze",
    "Register",
    "RegisterBehind",
    "RegisterCut",
    "RegisterMissing",
    "RegisterState",
    "erased_id",
]
