"""The settings of orgs and their API keys."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """How many API keys an org may have."""

    max_keys: Annotated[
        int, Meta(ge=1, le=100_000, description="Valid API keys that one org may have at once")
    ] = 1_000
