"""The names of a bundle's members. No other name is in any bundle."""

from __future__ import annotations

from typing import Final

README: Final = "README.txt"
STATEMENT: Final = "STATEMENT.txt"
PAGE: Final = "verify.html"
LOG_KEYS: Final = "log-keys.json"
NAMES: Final = "names.json"
MANIFEST: Final = "manifest.json"


def checkpoint_note(size: int) -> str:
    """The org's signed checkpoint of this size, in which all proofs end."""
    return f"checkpoints/{size}.note"


def checkpoint_leaf(size: int) -> str:
    """Where the checkpoint stands in the anchor log: an ``AnchorLeaf``."""
    return f"checkpoints/{size}.json"


def checkpoint_proof(size: int) -> str:
    """Inclusion of the checkpoint's blinded leaf in the anchor, a tlog-proof file."""
    return f"checkpoints/{size}.tlog-proof"


def anchor_note(size: int) -> str:
    """The anchor as the log alone signed it: the bytes that tokens cover."""
    return f"anchors/{size}.note"


def anchor_cosignatures(size: int) -> str:
    """Signature lines of witnesses, as they stand behind the log's own."""
    return f"anchors/{size}.cosignatures"


def anchor_token(size: int, number: int) -> str:
    """An RFC 3161 token over the anchor's note, DER; numbers count from 0."""
    return f"anchors/{size}.{number}.tst"


def leaves(batch: int) -> str:
    """Leaves of one batch, a line each; batches count from 0."""
    return f"leaves/{batch:06}.ndjson"


def payloads(batch: int) -> str:
    """Payloads of one batch: the same entries, line by line."""
    return f"payloads/{batch:06}.ndjson"


def proof(seq: int) -> str:
    """Inclusion of one entry in the checkpoint, a tlog-proof file."""
    return f"proofs/{seq:012}.tlog-proof"
