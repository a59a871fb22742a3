"""Damage to stored entries that a bundle needs."""

from __future__ import annotations

from tests.support.blocks import edit, remove
from tests.support.tampering import change, statement

BROKEN = 1_700
"""The seq of an entry outside the first batch: the answer has begun when it is read."""
DAMAGE = {
    "payload": change(edit, BROKEN, payload=lambda payload: b"\1" + payload[1:] + b"x"),
    "leaf": change(edit, BROKEN, leaf=lambda leaf: leaf.replace(b"case", b"cafe")),
    "no leaf": change(edit, BROKEN, leaf=b"x"),
    "removed": change(remove, BROKEN),
    "tile": statement(
        "UPDATE tile_parts SET hashes = sha256('x') || substr(hashes, 33) "
        f"WHERE org_id = $1 AND level = 0 AND tile = {BROKEN // 256}"
    ),
}
