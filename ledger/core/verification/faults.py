"""What can be wrong with a trail, and which verdict each kind of fault belongs to.

``docs/verification.md`` explains every kind; a test holds the two lists together.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ledger.chain import Fault
from ledger.errors import QuireError

MAX_FAULTS: Final = 1_000
"""Faults that are named; all are counted."""
MAX_REASON_CHARS: Final = 300

Verdict = bool | Literal["not_checked"]
NOT_CHECKED: Final = "not_checked"
CHECKS: Final = ("hashes", "signatures", "links", "payloads", "columns", "head")

CHECKS_OF_KIND: Final[dict[str, tuple[str, ...]]] = {
    "hash_mismatch": ("hashes",),
    "leaf_malformed": ("hashes",),
    "signature_invalid": ("signatures",),
    "unknown_key": ("signatures",),
    "payload_mismatch": ("payloads",),
    "column_mismatch": ("columns",),
    "foreign_org": ("columns",),
    "unreadable": ("columns",),
    "seq_mismatch": ("columns", "links"),
    "link_broken": ("links",),
    "genesis": ("links",),
    "missing": ("links",),
    "duplicate_seq": ("links",),
    "inserted": ("links",),
    "truncated": ("links", "head"),
    "wiped": ("links", "head"),
    "beyond_head": ("head",),
    "head_mismatch": ("head",),
    "head_missing": ("head",),
}

LEAVES_UNCHECKED: Final[dict[str, tuple[str, ...]]] = {
    "leaf_malformed": ("signatures", "links", "payloads", "columns"),
    "unreadable": ("hashes", "signatures", "links", "payloads"),
}
"""Checks that could not be made on an entry with such a fault."""


class VerificationFailed(QuireError):
    """A verification that could not be carried through; it says nothing of the trail."""


class Checks(msgspec.Struct, frozen=True):
    """One verdict per kind of check: true, false, or ``"not_checked"``."""

    hashes: Verdict = NOT_CHECKED
    signatures: Verdict = NOT_CHECKED
    links: Verdict = NOT_CHECKED
    payloads: Verdict = NOT_CHECKED
    columns: Verdict = NOT_CHECKED
    head: Verdict = NOT_CHECKED


class Result(msgspec.Struct, frozen=True):
    """The verdict on a trail or a range of it.

    ``total_entries`` counts the entries found and those missing; ``failed_entries``
    those of them with a fault. ``errors`` holds the first 1,000 faults by seq,
    ``fault_count`` counts all. ``last_seq`` is ``first_seq - 1`` for an empty range.
    """

    valid: bool
    total_entries: int
    verified_entries: int
    failed_entries: int
    errors: list[Fault]
    fault_count: int
    first_seq: int
    last_seq: int
    checks: Checks


def spell_range(first: int, last: int, what: str) -> str:
    """``"entry 5 <what>"`` or ``"entries 5 to 9 <what>"``, with is/are to match."""
    if first == last:
        return f"entry {first} is {what}"
    return f"entries {first} to {last} are {what}"
