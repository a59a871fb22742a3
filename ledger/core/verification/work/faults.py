"""The kinds of faults of a trail, and the checks that each kind fails.

``docs/verification.md`` explains every kind; a test compares the two lists.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec

from ledger.chain import NO_FAULT_OR_ONE, UNKNOWN_KEY, TrailFault
from ledger.errors import QuireError
from ledger.verdict import NOT_CHECKED, Check, Verdict

MAX_FAULTS: Final = 1_000
"""Faults that are listed at most; all are counted."""
MAX_REASON_CHARS: Final = 300

CHECKS: Final = (
    "hashes",
    "links",
    "signatures",
    "payloads",
    "columns",
    "head",
    "tree",
    "checkpoints",
    "anchors",
    "classical_signature",
    "pq_signature",
    "external_time",
    "witnesses",
    "search_index",
    "rows",
    "security_events",
)
CHECKS_OF_ENTRIES: Final = CHECKS[:5]
ALWAYS_REQUIRED: Final = CHECKS[:6]
"""The checks that every verification requires: those of entries, and the head."""

EVENT_CHANGED: Final = "event_changed"
EVENT_MISSING: Final = "event_missing"
EVENT_UNSEALED: Final = "event_unsealed"
EVENT_CONTRADICTED: Final = "event_contradicted"

CHECKS_OF_KIND: Final[dict[str, tuple[str, ...]]] = {
    "hash_mismatch": ("hashes",),
    "leaf_malformed": ("hashes",),
    "signature_invalid": ("signatures",),
    UNKNOWN_KEY: (),  # the signature can't be checked on this machine
    "payload_mismatch": ("payloads",),
    "column_mismatch": ("columns",),
    "block_border": ("columns",),
    "foreign_org": ("columns",),
    "unreadable": ("columns",),
    "seq_mismatch": ("columns", "links"),
    "link_broken": ("links",),
    "genesis": ("links",),
    "missing": ("links",),
    "duplicate_seq": ("links",),
    "inserted": ("links",),
    "archive_damaged": ("links",),
    "truncated": ("links", "head"),
    "wiped": ("links", "head"),
    "beyond_head": ("head",),
    "head_mismatch": ("head",),
    "head_missing": ("head",),
    "below_acknowledged": ("links", "head"),
    "acknowledged_differs": ("links", "head"),
    "rewritten": ("tree",),
    "tile_mismatch": ("tree",),
    "tile_missing": ("tree",),
    "tree_mismatch": ("tree",),
    "below_signed": ("tree", "head"),
    "checkpoint_malformed": ("checkpoints",),
    "checkpoint_altered": ("checkpoints", "classical_signature"),
    "checkpoint_foreign": ("checkpoints", "classical_signature"),
    "checkpoint_pq_signature": ("checkpoints", "pq_signature"),
    "checkpoint_columns": ("checkpoints",),
    "checkpoint_missing": ("checkpoints",),
    "forked": ("tree", "checkpoints"),
    "rolled_back": ("tree", "checkpoints"),
    "anchor_rewritten": ("anchors",),
    "anchor_tile_mismatch": ("anchors",),
    "anchor_tile_missing": ("anchors",),
    "anchor_tree_mismatch": ("anchors",),
    "anchor_below_signed": ("anchors",),
    "anchor_malformed": ("anchors",),
    "anchor_altered": ("anchors", "classical_signature"),
    "anchor_foreign": ("anchors", "classical_signature"),
    "anchor_pq_signature": ("anchors", "pq_signature"),
    "anchor_columns": ("anchors",),
    "anchor_forked": ("anchors",),
    "anchor_rolled_back": ("anchors",),
    "anchor_leaf_missing": ("anchors",),
    "anchor_leaf_mismatch": ("anchors",),
    "timestamp_invalid": ("external_time",),
    "cosignature_invalid": ("witnesses",),
    "index_missing": ("search_index",),
    "index_wrong": ("search_index",),
    "row_not_authentic": ("rows",),
    "row_missing": ("rows",),
    EVENT_CHANGED: ("security_events",),
    EVENT_MISSING: ("security_events",),
    EVENT_UNSEALED: ("security_events",),
    EVENT_CONTRADICTED: ("security_events",),
    "unsealed": ("payloads",),
}


class LogKinds(NamedTuple):
    """The kinds of a signed log's faults: of its tree, its tiles, its notes."""

    rewritten: str
    tile_mismatch: str
    tile_missing: str
    tree_mismatch: str
    below_signed: str
    malformed: str
    altered: str
    foreign: str
    pq_signature: str
    columns: str
    forked: str
    rolled_back: str


TRAIL_KINDS: Final = LogKinds(
    "rewritten",
    "tile_mismatch",
    "tile_missing",
    "tree_mismatch",
    "below_signed",
    "checkpoint_malformed",
    "checkpoint_altered",
    "checkpoint_foreign",
    "checkpoint_pq_signature",
    "checkpoint_columns",
    "forked",
    "rolled_back",
)
INDEX_KINDS: Final = ("index_missing", "index_wrong")
"""The kinds of faults of the search index, which say nothing about the entries."""
ROW_KINDS: Final = ("row_not_authentic", "row_missing")
"""The kinds of faults of rows that decide, which say nothing about the entries."""
SECURITY_EVENT_KINDS: Final = (EVENT_CHANGED, EVENT_MISSING, EVENT_UNSEALED, EVENT_CONTRADICTED)
"""The kinds of faults of security events, which say nothing about the entries."""
ANCHOR_KINDS: Final = LogKinds(*(f"anchor_{name}" for name in LogKinds._fields))
NO_ENTRY: Final = -1
"""The seq of a fault that concerns no entry: of the anchor log, the index, rows that decide, security events, or the whole trail."""

LEAVES_UNCHECKED: Final[dict[str, tuple[str, ...]]] = {
    "leaf_malformed": ("signatures", "links", "payloads", "columns"),
    UNKNOWN_KEY: ("signatures",),
    "unreadable": ("hashes", "signatures", "links", "payloads"),
    **dict.fromkeys(
        ("missing", "truncated", "wiped", "archive_damaged"),
        ("hashes", "signatures", "payloads", "columns"),
    ),
    **dict.fromkeys(
        ("checkpoint_malformed", "checkpoint_missing", "rolled_back", "tree_mismatch"),
        ("classical_signature",),
    ),
    **dict.fromkeys(
        ("anchor_malformed", "anchor_rolled_back", "anchor_tree_mismatch"),
        ("classical_signature", "pq_signature"),
    ),
}
"""By kind of fault: the checks that the fault prevents for some of the entries or heads."""


class VerificationFailed(QuireError):
    """The verification could not be completed; this says nothing about the trail."""


class RangeRefused(VerificationFailed):
    """The range ends or begins beyond the trail and beyond every size that was signed."""


class Checks(msgspec.Struct, frozen=True):
    """One answer for each check: true, false, or ``"not_checked"``."""

    hashes: Check = NOT_CHECKED
    """Whether each stored entry hash is that of its leaf, and each leaf is canonical."""
    links: Check = NOT_CHECKED
    """Whether each leaf names the hash of the entry before it, and no entry is missing or inserted."""
    signatures: Check = NOT_CHECKED
    """Whether the signature of each entry verifies."""
    payloads: Check = NOT_CHECKED
    """Whether each payload has the digest and the size that its leaf gives."""
    columns: Check = NOT_CHECKED
    """Whether the columns beside each leaf say what the leaf says."""
    head: Check = NOT_CHECKED
    """Whether the head row names the last entry."""
    tree: Check = NOT_CHECKED
    """Whether the Merkle tree over the leaves is that of the tiles and of every signed root."""
    checkpoints: Check = NOT_CHECKED
    """Whether each checkpoint is a signed note of this log, and none is missing."""
    anchors: Check = NOT_CHECKED
    """Whether the anchor log is whole and commits to the checkpoints."""
    classical_signature: Check = NOT_CHECKED
    """Whether the Ed25519 signatures of checkpoints and anchors verify."""
    pq_signature: Check = NOT_CHECKED
    """Whether the ML-DSA-44 signatures of anchors verify."""
    external_time: Check = NOT_CHECKED
    """Whether each timestamp verifies over its anchor."""
    witnesses: Check = NOT_CHECKED
    """Whether each cosignature verifies, and the quorum of the policy cosigned."""
    search_index: Check = NOT_CHECKED
    """Whether the search index says what the entries say."""
    rows: Check = NOT_CHECKED
    """Whether each row by which the server decides was written by it."""
    security_events: Check = NOT_CHECKED
    """Whether each security event is as an entry of the trail sealed it."""


class Result(msgspec.Struct, frozen=True):
    """The verdict on a trail or a range of it.

    ``total_entries`` counts the entries found and the missing ones; ``failed_entries``
    those of them with a fault. ``errors`` has the first 1,000 faults by seq,
    ``fault_count`` counts all. ``last_seq`` is ``first_seq - 1`` for an empty trail.
    ``valid`` is True only for the verdict "verified". ``unsigned_entries`` counts the
    entries that no signed checkpoint covers yet; ``reasons`` says for each check that was
    not made, by its name, why.
    """

    valid: bool
    """Whether the verdict is "verified"."""
    total_entries: Annotated[int, msgspec.Meta(examples=[42])]
    """How many entries were found or are missing."""
    verified_entries: Annotated[int, msgspec.Meta(examples=[42])]
    """How many of them have no fault."""
    failed_entries: Annotated[int, msgspec.Meta(examples=[0])]
    """How many of them have a fault."""
    errors: Annotated[list[TrailFault], msgspec.Meta(examples=NO_FAULT_OR_ONE)]
    """The faults, by seq; the first 1,000 of them."""
    fault_count: Annotated[int, msgspec.Meta(examples=[0])]
    """How many faults there are."""
    first_seq: Annotated[int, msgspec.Meta(examples=[0])]
    """The first seq of the range."""
    last_seq: Annotated[int, msgspec.Meta(examples=[41])]
    """The last seq of the range; one less than ``first_seq`` for an empty trail."""
    checks: Checks
    """The answer of each check."""
    verdict: Verdict = Verdict.INCOMPLETE
    """The verdict on the range."""
    unsigned_entries: Annotated[int, msgspec.Meta(examples=[0])] = 0
    """How many entries no signed checkpoint covers yet."""
    reasons: Annotated[
        dict[str, str], msgspec.Meta(examples=[{}, {"external_time": "no authority is set up"}])
    ] = {}
    """By the name of a check that was not made: why."""


def spell_range(first: int, last: int, state: str) -> str:
    """``"entry 5 is <state>"`` or ``"entries 5 to 9 are <state>"``."""
    if first == last:
        return f"entry {first} is {state}"
    return f"entries {first} to {last} are {state}"
