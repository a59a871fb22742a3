"""A subject is erased while an append waits: its events are sealed again, a bounded number of times."""

from __future__ import annotations

from typing import cast

import pytest

from ledger.core.org import OrgFacts
from ledger.core.sealing.sealer import Drafted, Sealer
from ledger.core.sequencer import Appended, AppendRequest, StaleSeal
from ledger.errors import DatabaseUnavailable
from server.trails.appending import MAX_SEALINGS, append_sealed

ORG = OrgFacts(1, "acme", True, b"")


class Erasures:
    """A double of sealer and sequencer: a subject is erased before each of the first commits."""

    def __init__(self, erased: int) -> None:
        self.calls: list[str] = []
        self._erased = erased

    async def draft(self, _org: OrgFacts, _events: object) -> Drafted:
        self.calls.append("draft")
        return Drafted([], 0)

    def forget(self, _org: OrgFacts) -> None:
        self.calls.append("forget")

    async def append(self, request: AppendRequest) -> Appended:
        self.calls.append("append")
        if self.calls.count("append") <= self._erased:
            raise StaleSeal(1)
        return cast("Appended", request)

    async def run(self) -> Appended:
        return await append_sealed(
            self.append,
            cast("Sealer", self),
            ORG,
            [],
            lambda sealed: cast("AppendRequest", sealed),
        )


async def test_events_are_sealed_again_with_fresh_subjects() -> None:
    erasures = Erasures(erased=2)
    assert cast("Drafted", await erasures.run()).drafts == []
    assert erasures.calls == [*["draft", "append", "forget"] * 2, "draft", "append"]


async def test_an_append_gives_up_where_subjects_are_erased_faster_than_sealed() -> None:
    erasures = Erasures(erased=MAX_SEALINGS)
    with pytest.raises(DatabaseUnavailable, match="were erased while"):
        await erasures.run()
    assert erasures.calls.count("append") == MAX_SEALINGS
