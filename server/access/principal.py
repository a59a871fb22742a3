"""Callers: who they are by their API key, what they may do, and whether the key is still valid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ledger.core.register import API_KEYS, Register
from ledger.errors import ProblemType, QuireError
from server.access.rights import Right, Role
from server.addresses import ClientAddress, Network

PLATFORM: Final = "platform"
NEVER_US: Final = 2**63 - 1
"""When a key expires that does not."""


class Unauthorized(QuireError):
    """The request has no API key, or an invalid one."""

    problem_type = ProblemType(
        "unauthorized",
        401,
        "No valid API key",
        "send an API key as 'Authorization: Bearer …' or 'x-api-key: …'",
    )


class Forbidden(QuireError):
    """The key is valid, but its role does not permit the request."""

    problem_type = ProblemType(
        "forbidden",
        403,
        "Not permitted for this key's role",
        "this API key has the role viewer, which may not append entries; use a key with the role "
        "admin or member, which an admin of the org can make",
    )


class AddressNotAllowed(QuireError):
    """The key is valid, but not from the client's address."""

    problem_type = ProblemType(
        "address-not-allowed",
        403,
        "The key may not be used from this address",
        "this API key may only be used from other addresses than this request came from: use it "
        "there, or ask an admin of the org to change its addresses",
    )

    def __init__(self) -> None:
        kind = self.problem_type
        assert kind is not None, "stated above"
        super().__init__(kind.example)


class Principal(NamedTuple):
    """An authenticated caller; ``org_id`` is None for the platform.

    ``mac`` is that of the key's row (hexadecimal digits), ``revocations`` the org's count, both as
    they were read: :mod:`server.access.permits` compares them with those of the moment. The key is
    valid before ``expires_us`` (µs since the Unix epoch), and from the addresses in ``allowed``;
    without any, from all.
    """

    key_id: str
    org_id: int | None
    role: Role
    mac: str
    revocations: int
    system_revocations: int
    expires_us: int = NEVER_US
    allowed: tuple[Network, ...] = ()

    @property
    def actor(self) -> str:
        """The caller as entries of the server name it: its API key."""
        return f"key:{self.key_id}"

    @property
    def owner(self) -> int | str:
        """The owner of the caller's requests in the queues that orgs share."""
        return PLATFORM if self.org_id is None else self.org_id

    def admits(self, address: ClientAddress) -> bool:
        """Return whether the key may be used from an address."""
        return not self.allowed or address.is_in(self.allowed)

    def may(self, right: Right) -> bool:
        """Return whether the caller's role has a right."""
        return self.role in right.roles

    def require(self, right: Right) -> None:
        """Raise Forbidden if the caller's role does not have a right."""
        if not self.may(right):
            raise Forbidden(
                f"this API key has the role {self.role}, which may not {right}; "
                f"use a key with the role {right.needed()}, which {right.giver()} can make"
            )


class KeyValidity(NamedTuple):
    """Judges keys that were admitted before: of cached principals, and of requests that last.

    It reads nothing: the register follows revocations within a second. ``now_us`` returns the time
    in µs as it goes on over a leap of the clock, so that no leap lets an expired key in again, or
    ends a valid one.
    """

    register: Register
    now_us: Callable[[], int]

    def is_current(self, principal: Principal) -> bool:
        """Return whether a principal's key is still valid, as far as this process knows."""
        newest = self.register.is_newest(API_KEYS, principal.key_id, principal.mac)
        return newest and not self.has_expired(principal)

    def has_expired(self, principal: Principal) -> bool:
        """Return whether a principal's key has expired."""
        return self.now_us() >= principal.expires_us
