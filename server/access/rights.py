"""Roles of API keys, and the rights that routes require."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Role(StrEnum):
    """The role of an API key."""

    PLATFORM = "platform"
    """Makes orgs, and may do everything in each of them."""
    ADMIN = "admin"
    """Also manages the keys of its org, erases persons and thaws."""
    MEMBER = "member"
    """Also appends entries and opens what is sealed."""
    VIEWER = "viewer"
    """Reads and verifies, but opens nothing sealed."""


class Right(NamedTuple):
    """A right, in words that follow "may", and the roles that have it."""

    words: str
    roles: frozenset[Role]

    def __str__(self) -> str:
        return self.words

    def needed(self) -> str:
        """Return the roles that have the right, for a message; platform only if no other has it."""
        roles = [role for role in Role if role in self.roles and role is not Role.PLATFORM]
        return " or ".join(roles or [Role.PLATFORM])


def right(words: str, *roles: Role) -> Right:
    """Return a right of these roles; platform keys have every right."""
    return Right(words, frozenset({Role.PLATFORM, *roles}))


class May:
    """The rights of the ledger itself; another domain adds its own with :func:`right`."""

    APPEND: Final = right("append entries", Role.ADMIN, Role.MEMBER)
    READ: Final = right("read entries", Role.ADMIN, Role.MEMBER, Role.VIEWER)
    OPEN: Final = right("open sealed payloads", Role.ADMIN, Role.MEMBER)
    VERIFY: Final = right("verify", Role.ADMIN, Role.MEMBER, Role.VIEWER)
    ADMINISTER: Final = right("administer this org", Role.ADMIN)
    PLATFORM: Final = right("administer the platform")
