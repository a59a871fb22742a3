"""Reading a trail over HTTP in a test."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.support.serving import PeerAnswer, Server


class ServedTrail(NamedTuple):
    """An org on a server, with entries of many kinds, and the events that were sent."""

    server: Server
    org: str
    key: str
    events: list[dict[str, Any]]

    def get(self, path: str, key: str | None = None, **query: Any) -> PeerAnswer:
        tail = f"?{urlencode(query)}" if query else ""
        return self.server.request("GET", f"/v1/orgs/{self.org}{path}{tail}", key=key or self.key)

    def find(self, **query: Any) -> list[dict[str, Any]]:
        """All entries that a query returns, collected page by page."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self.get("/entries", **query)
            assert answer.status == 200, answer.body
            page = answer.json()
            found += page["entries"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]
