"""The rows in which the windows of a recorder wait, and what they hold, merged over processes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from ledger.entry import to_datetime
from ledger.storage.pending_acts import PendingAct
from server.trails.own.recorder import Window
from server.trails.own.runs import runs

ITEMS_AT_ONCE: Final = 1_000
"""Items of one row."""
ID_BYTES: Final = 16
READ, REFUSED, VERIFIED, OPENED, BUNDLED = "read", "refused", "verified", "opened", "bundled"
RUN: Final = "run"
HOURLY: Final = (READ, REFUSED)
"""The kinds that are told once an hour; others are told after a minute."""


class ActRow(msgspec.Struct, array_like=True):
    """The body of a row: the time of its last act (µs since the epoch), and its items."""

    until_us: int
    items: list[Any]


def rows_of(window: Window) -> Iterator[PendingAct]:
    """Yield a window as rows."""
    items: dict[tuple[int, str], list[Any]] = {}

    def add(org_id: int, kind: str, item: Sequence[Any]) -> None:
        items.setdefault((org_id, kind), []).append(item)

    for (org_id, key, route), tally in window.reads.items():
        add(org_id, READ, (key, route, tally.count, tally.first, tally.last))
    for (org_id, source, reason), count in window.refused.items():
        add(org_id, REFUSED, (source, reason, count))
    for place, tally in window.verified.items():
        add(place.org_id, VERIFIED, (*place[1:], tally.count, tally.first, tally.last))
    for (org_id, key), opened in window.opened.items():
        add(org_id, OPENED, (key, list(runs(sorted(opened.seqs))), opened.unlisted))
    for bundle in window.bundles:
        add(bundle.org_id, BUNDLED, bundle[1:])
    since, until_us = to_datetime(int(window.since * 1e6)), int(window.until * 1e6)
    for (org_id, kind), found in items.items():
        for first in range(0, len(found), ITEMS_AT_ONCE):
            body = msgspec.msgpack.encode(ActRow(until_us, found[first : first + ITEMS_AT_ONCE]))
            yield PendingAct(secrets.token_bytes(ID_BYTES), org_id, kind, since, body)


def read_row(act: PendingAct) -> ActRow | None:
    """Return the body of a row; None if it can't be read."""
    try:
        return msgspec.msgpack.decode(act.body, type=ActRow)
    except msgspec.MsgspecError:
        return None
