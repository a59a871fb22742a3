"""The facts about an org that appending and reading need."""

from __future__ import annotations

from typing import NamedTuple


class Quota(NamedTuple):
    """How much an org may append in a day (UTC): entries, and bytes of bodies; 0: any number."""

    entries: int = 0
    bytes: int = 0


NO_QUOTA = Quota()


class OrgFacts(NamedTuple):
    """The facts about an org, none of which changes but the quota and the greatest age of its keys.

    Entries below seq ``keys_lost_below`` are sealed with keys that were not restored,
    except those of persons whose rows exist. Keys older than ``max_key_age_days`` should be rotated; 0:
    none.
    """

    id: int
    slug: str
    seals: bool
    wrapped_key: bytes
    keys_lost_below: int = 0
    quota: Quota = NO_QUOTA
    max_key_age_days: int = 0
