"""The names of a server's logs: each org's and the anchor log, below one base origin."""

from __future__ import annotations

import re
from typing import Final

from ledger.errors import KeyHistoryError

BASE_ORIGIN_CHARACTERS_MAX: Final = 180
"""With ``/orgs/`` and a slug of 63 it stays within the 255 bytes of a cosigned message."""
_BASE = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[A-Za-z0-9._~-]+)*")
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_base_origin(origin: str) -> str:
    """The base origin as it was given, a URL without scheme. Raises KeyHistoryError."""
    if len(origin) > BASE_ORIGIN_CHARACTERS_MAX or not _BASE.fullmatch(origin):
        raise KeyHistoryError(
            "a log's origin is a host, and a path if you like, without scheme or a slash at its "
            f'end, such as "audit.example.com/ledger": at most {BASE_ORIGIN_CHARACTERS_MAX} '
            "characters"
        )
    return origin


def org_origin(base: str, slug: str) -> str:
    """Origin, and key name, of an org's log. Raises KeyHistoryError for what is no slug."""
    if not _SLUG.fullmatch(slug):
        raise KeyHistoryError(f"{slug[:64]!r} is no org's slug: it has no log")
    return f"{base}/orgs/{slug}"


def anchor_origin(base: str) -> str:
    """Origin, and key name, of the anchor log."""
    return f"{base}/anchors"
