"""Log keys for tests, and notes signed with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from ledger.checkpoint import TreeHead
from ledger.log_keys import KeySeeds, LogKeys, anchor_origin, generate, org_origin, rotate
from ledger.note import sign_note

ORIGIN = "audit.example.com/ledger"
NOW_US = 1_767_268_800_000_000
ROOT = bytes(range(32))


def seeds(number: int) -> KeySeeds:
    return KeySeeds(b"e%031d" % number, b"m%031d" % number)


def keys(count: int = 1, origin: str = ORIGIN) -> LogKeys:
    """Log keys with ``count`` keys, rotated a microsecond apart.

    Cached: the ML-DSA-44 signatures of two equal rotations would differ.
    """
    return _keys(count, origin)


@cache
def _keys(count: int, origin: str) -> LogKeys:
    if count == 1:
        return generate(origin, seeds(0), NOW_US)
    return rotate(_keys(count - 1, origin), seeds(count - 1), NOW_US + count - 1)


def org_note(signed_by: LogKeys, slug: str = "acme", size: int = 3) -> bytes:
    text = TreeHead(org_origin(signed_by.origin, slug), size, ROOT).text()
    return sign_note(text, signed_by.org_signers(slug))


def anchor_note(signed_by: LogKeys, size: int = 3) -> bytes:
    text = TreeHead(anchor_origin(signed_by.origin), size, ROOT).text()
    return sign_note(text, signed_by.anchor_signers(), 1_700_000_000)


Change = Callable[[dict[str, Any]], None]


def put(*path: str | int, value: object) -> Change:
    """Change one value of a document."""

    def change(document: dict[str, Any]) -> None:
        inner: Any = document
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return change
