"""The columns of an entry, and how many bytes of entries one page of them may have."""

from __future__ import annotations

from typing import Final

ENTRY_COLUMNS: Final = (
    "org_id, seq, anchored_at, actor_tag, subject_tag, entry_hash, signature, leaf, payload"
)
"""The fields of ``StoredEntry``, in their order."""
PAGE_BYTES: Final = 8 << 20
"""Payload bytes after which a page ends early; its last entry may exceed them."""
