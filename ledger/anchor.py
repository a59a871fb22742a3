"""Leaves of the anchor log: commitments to checkpoints that name no tenant.

The anchor log is public. Its leaf for a checkpoint is a hash under a random
nonce: without the nonce it reveals neither the org nor its volume, with the
nonce it commits to the checkpoint's note. The number of checkpoints of all orgs
together, and their times, remain public.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from ledger.entry import HASH_BYTES
from ledger.errors import FormatError

LABEL: Final = b"quire anchor leaf v1\n"
NONCE_BYTES: Final = 32


def blind(nonce: bytes, note: bytes) -> bytes:
    """Return the anchor log's leaf for a checkpoint: SHA-256(label || nonce || note), 32 bytes.

    ``note`` is the signed note as published, signatures included.
    Raises FormatError for a nonce that is not 32 bytes.
    """
    if len(nonce) != NONCE_BYTES:
        raise FormatError(f"a nonce is {NONCE_BYTES} bytes, not {len(nonce)}")
    return sha256(LABEL + nonce + note).digest()


LEAF_BYTES: Final = HASH_BYTES
"""Every leaf of the anchor log has this length."""
