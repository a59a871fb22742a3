"""The keys that sign checkpoints and anchors, and their public history."""

from __future__ import annotations

from ledger.log_keys.history import (
    KEYS_MAX,
    LogKeyHistory,
    OpenedAnchor,
    PublicLogKey,
    open_anchor,
    open_org_checkpoint,
    parse_trust,
)
from ledger.log_keys.pins import KeyPins
from ledger.log_keys.private import (
    KeySeeds,
    LogKeys,
    dump_log_keys,
    generate,
    history_of,
    parse_log_keys,
    rotate,
)
from ledger.log_keys.settling import SettledKeys, settle
from ledger.log_keys.statement import anchor_origin, check_base_origin, org_origin

__all__ = [
    "KEYS_MAX",
    "KeyPins",
    "KeySeeds",
    "LogKeyHistory",
    "LogKeys",
    "OpenedAnchor",
    "PublicLogKey",
    "SettledKeys",
    "anchor_origin",
    "check_base_origin",
    "dump_log_keys",
    "generate",
    "history_of",
    "open_anchor",
    "open_org_checkpoint",
    "org_origin",
    "parse_log_keys",
    "parse_trust",
    "rotate",
    "settle",
]
