"""The settings of rate limits."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

MOST: int = 10_000_000
"""The largest number of requests a minute that a limit can be."""


def _limit(description: str) -> Meta:
    return Meta(ge=0, le=MOST, description=f"{description}; 0: no limit")


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """How many requests a minute are served; those of keys and orgs hold where an org has none of its own."""

    key_append_per_minute: Annotated[
        int, _limit("Requests a minute that append, of one API key")
    ] = 0
    key_read_per_minute: Annotated[int, _limit("Requests a minute that read, of one API key")] = 0
    key_verify_per_minute: Annotated[int, _limit("Verifications a minute of one API key")] = 0
    org_append_per_minute: Annotated[
        int, _limit("Requests a minute that append, of all API keys of one org")
    ] = 0
    org_read_per_minute: Annotated[
        int, _limit("Requests a minute that read, of all API keys of one org")
    ] = 0
    org_verify_per_minute: Annotated[
        int, _limit("Verifications a minute of all API keys of one org")
    ] = 0
    org_new_keys_per_hour: Annotated[
        int, _limit("API keys an hour that the keys of one org may make or rotate")
    ] = 300
    address_per_minute: Annotated[
        int,
        _limit(
            "Requests a minute without a valid API key from one IPv4 address or one IPv6 /64; "
            "loopback and trusted proxies have no such limit"
        ),
    ] = 600
    installation_per_minute: Annotated[
        int, _limit("Requests a minute of all callers together, but for those with a platform key")
    ] = 0
