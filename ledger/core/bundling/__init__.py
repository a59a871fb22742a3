"""Evidence bundles made from a database: what goes in is settled first, then it is streamed.

``selection`` says which entries, ``covering`` which checkpoint and anchor, ``disclosure``
what may be opened, ``builder`` makes the bytes. The format is :mod:`ledger.evidence`.
"""

from __future__ import annotations

from ledger.core.bundling.builder import BundleBuilder, BundlePlan
from ledger.core.bundling.covering import covering
from ledger.core.bundling.disclosure import Disclosure
from ledger.core.bundling.selection import (
    EntrySource,
    NothingSelected,
    Selection,
    TooManySelected,
    by_filter,
    by_range,
    by_records,
)

__all__ = [
    "BundleBuilder",
    "BundlePlan",
    "Disclosure",
    "EntrySource",
    "NothingSelected",
    "Selection",
    "TooManySelected",
    "by_filter",
    "by_range",
    "by_records",
    "covering",
]
