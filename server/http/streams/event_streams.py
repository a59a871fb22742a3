"""Streams of server-sent events: how many are open at a time, of all orgs and of one."""

from __future__ import annotations

import asyncio
from typing import Final

from ledger.core.shares import OrgShares
from ledger.errors import QueueFull
from server.trails.services import Services

MAX_OPEN: Final = 256
MAX_OPEN_OF_ORG: Final = 16


class EventStreams(OrgShares):
    """The open streams of one process."""

    def __init__(self) -> None:
        super().__init__(total=MAX_OPEN, of_org=MAX_OPEN_OF_ORG, full=_full)

    def open(self, org_id: int) -> None:
        """Count a stream that the current task sends, until the task ends. Raises QueueFull."""
        task = asyncio.current_task()
        assert task is not None, "a request is answered by a task"
        self.acquire(org_id)
        task.add_done_callback(lambda _: self.release(org_id))


def _full(everyone: bool) -> QueueFull:
    whose = "" if everyone else " of this org"
    return QueueFull(
        f"too many streams of events{whose} are open; close some, and retry", everyone=everyone
    )


def event_streams(_: Services) -> EventStreams:
    """Return the open streams of this process; made once, by :meth:`Services.part`."""
    return EventStreams()
