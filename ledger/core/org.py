"""The facts about an org that appending and reading need."""

from __future__ import annotations

from typing import NamedTuple


class OrgFacts(NamedTuple):
    """The unchanging facts about an org.

    Entries below seq ``keys_lost_below`` are sealed with keys that were not restored,
    except those of persons whose rows exist.
    """

    id: int
    slug: str
    seals: bool
    wrapped_key: bytes
    keys_lost_below: int = 0
