"""An org, as what appends to its trail and reads it knows it."""

from __future__ import annotations

from typing import NamedTuple


class OrgFacts(NamedTuple):
    """What appending and reading need to know of an org; none of it ever changes.

    Entries below seq ``keys_lost_below`` are sealed under keys that were not restored,
    but for those of persons whose rows are there.
    """

    id: int
    slug: str
    seals: bool
    wrapped_key: bytes
    keys_lost_below: int = 0
