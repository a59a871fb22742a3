"""Roles of API keys, and the rights that routes require: the one table of who may do what."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple


class Role(StrEnum):
    """The role of an API key."""

    PLATFORM = "platform"
    """Makes orgs, and may do everything in each of them."""
    ADMIN = "admin"
    """Also manages the keys of its org, erases persons and thaws."""
    MEMBER = "member"
    """Also appends entries, opens what is sealed, and lists keys."""
    AUDITOR = "auditor"
    """Reads and verifies, lists keys and sees security events; opens and changes nothing."""
    VIEWER = "viewer"
    """Reads and verifies, but opens nothing sealed."""


MUST_EXPIRE: Final = frozenset({Role.AUDITOR})
"""The roles whose keys have an end, whoever makes them."""


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

    def giver(self) -> str:
        """Return who can make a key that has the right."""
        by_platform = self.roles == {Role.PLATFORM}
        return "the operator of this server" if by_platform else "an admin of the org"


def right(words: str, *roles: Role) -> Right:
    """Return a right of these roles; platform keys have every right."""
    return Right(words, frozenset({Role.PLATFORM, *roles}))


_EVERY: Final = (Role.ADMIN, Role.MEMBER, Role.AUDITOR, Role.VIEWER)


class May:
    """The rights of the ledger itself; another domain adds its own with :func:`right`."""

    READ: Final = right("read entries", *_EVERY)
    VERIFY: Final = right("verify", *_EVERY)
    BUNDLE: Final = right("make bundles that disclose nothing", *_EVERY)
    ROTATE_OWN: Final = right("rotate its own key", *_EVERY)
    APPEND: Final = right("append entries", Role.ADMIN, Role.MEMBER)
    OPEN: Final = right("open sealed payloads", Role.ADMIN, Role.MEMBER)
    DISCLOSE: Final = right("disclose payloads or names in bundles", Role.ADMIN, Role.MEMBER)
    LIST_KEYS: Final = right("list API keys", Role.ADMIN, Role.MEMBER, Role.AUDITOR)
    SEE_EVENTS: Final = right("see security events", Role.ADMIN, Role.AUDITOR)
    ADMINISTER: Final = right("administer this org", Role.ADMIN)
    PLATFORM: Final = right("administer the platform")
    LASTING_KEYS: Final = right("make keys that never expire")


def rights() -> list[Right]:
    """Return all rights of the ledger, in the order of the table in the documentation."""
    return [value for value in vars(May).values() if isinstance(value, Right)]


def role_of(text: str) -> Role | None:
    """Return the role with this name, None for an unknown one, which has no right."""
    return Role(text) if text in set(Role) else None


def table(of: Iterable[Right]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the head and the rows of a table of rights: who may do what."""
    head = ("may", *(role.value for role in Role))
    rows = [(each.words, *("✓" if role in each.roles else "-" for role in Role)) for each in of]
    return head, rows
