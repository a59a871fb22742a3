"""The names of a bundle's members; a bundle has no others."""

from __future__ import annotations

from typing import Final

README: Final = "README.txt"
STATEMENT: Final = "STATEMENT.txt"
PAGE: Final = "verify.html"
LOG_KEYS: Final = "log-keys.json"
NAMES: Final = "names.json"
MANIFEST: Final = "manifest.json"


def checkpoint_note(size: int) -> str:
    """Return the name of the org's signed checkpoint of this size, in which all proofs end."""
    return f"checkpoints/{size}.note"


def checkpoint_leaf(size: int) -> str:
    """Return the name of the checkpoint's leaf in the anchor log, a ``BundledLeaf``."""
    return f"checkpoints/{size}.json"


def checkpoint_proof(size: int) -> str:
    """Return the name of the tlog-proof that the checkpoint's blinded leaf is in the anchor."""
    return f"checkpoints/{size}.tlog-proof"


def anchor_note(size: int) -> str:
    """Return the name of the anchor as the log alone signed it; timestamps cover these bytes."""
    return f"anchors/{size}.note"


def anchor_cosignatures(size: int) -> str:
    """Return the name of the witnesses' signature lines, which follow the log's own in a note."""
    return f"anchors/{size}.cosignatures"


def anchor_token(size: int, number: int) -> str:
    """Return the name of an RFC 3161 token (DER) for the anchor's note; numbers begin at 0."""
    return f"anchors/{size}.{number}.tst"


def leaves(batch: int) -> str:
    """Return the name of a batch's leaves, one per line; batches begin at 0."""
    return f"leaves/{batch:06}.ndjson"


def payloads(batch: int) -> str:
    """Return the name of a batch's payloads, one line for each line of its leaves."""
    return f"payloads/{batch:06}.ndjson"


def proof(seq: int) -> str:
    """Return the name of the tlog-proof that an entry is in the checkpoint."""
    return f"proofs/{seq:012}.tlog-proof"
