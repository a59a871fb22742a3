"""Roles of API keys, and the rights that routes ask for."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Role(StrEnum):
    """What a key is for."""

    PLATFORM = "platform"
    """Makes orgs, and may do everything in each of them."""
    ADMIN = "admin"
    """Also manages the keys of its org, erases persons and thaws."""
    MEMBER = "member"
    """Also appends entries and opens what is sealed."""
    VIEWER = "viewer"
    """Reads and verifies, but opens nothing sealed."""


class Right(NamedTuple):
    """One thing that a caller may do, in words that follow "may", and the roles that may do it."""

    words: str
    roles: frozenset[Role]

    def __str__(self) -> str:
        return self.words


def right(words: str, *roles: Role) -> Right:
    """A right of these roles; the platform's keys have every right."""
    return Right(words, frozenset({Role.PLATFORM, *roles}))


class May:
    """The rights of the ledger itself; a domain of its own makes more with :func:`right`."""

    APPEND: Final = right("append entries", Role.ADMIN, Role.MEMBER)
    READ: Final = right("read entries", Role.ADMIN, Role.MEMBER, Role.VIEWER)
    OPEN: Final = right("open sealed payloads", Role.ADMIN, Role.MEMBER)
    VERIFY: Final = right("verify", Role.ADMIN, Role.MEMBER, Role.VIEWER)
    ADMINISTER: Final = right("administer this org", Role.ADMIN)
    PLATFORM: Final = right("administer the platform")
