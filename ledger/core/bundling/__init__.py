"""Makes evidence bundles from a database: a bundle is planned first, then streamed.

``selection`` chooses the entries, ``covering`` the checkpoint and the anchor, ``disclosure``
the payloads and names to open; ``builder`` makes the bytes. The format is :mod:`ledger.evidence`.
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
