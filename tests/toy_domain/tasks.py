"""The worker tasks of the toys."""

from __future__ import annotations

from server.trails.services import Services
from tests.toy_domain.rules import ToyBox


async def watch_toys(services: Services) -> None:
    """Watch the toy box."""
    services.part(ToyBox).watched = True
