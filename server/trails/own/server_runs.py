"""Starts and stops of servers: the rows in which they wait, and the entries that tell them; pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from ledger.entry import from_datetime, rfc3339
from ledger.storage.pending_acts import PendingAct
from server.settings.told import ToldSettings
from server.trails.own.server_payloads import (
    ComparedStart,
    ServerStart,
    ServerStarted,
    ServerStop,
    ServerStopped,
    SettingChange,
)
from server.trails.own.staging import ID_BYTES, RUN, ActRow

Reason = Literal["SIGTERM", "SIGINT", "failed"]
MAX_STARTS: Final = 100
MAX_STOPS: Final = 500
"""Starts and stops that one entry lists."""
MAX_CHANGES: Final = 1_000
"""Changed settings that one entry lists: some 500 kB at most."""
DATA_DIR: Final = "QUIRE_DATA_DIR"


class StartedRun(Struct, tag="started", tag_field="act"):
    """A server that started, as a row holds it; ``run`` is random."""

    run: str
    host: str
    version: str
    processes: int
    settings: ToldSettings


class StoppedRun(Struct, tag="stopped", tag_field="act"):
    """A server that stopped in order."""

    run: str
    host: str
    reason: Reason


Act = StartedRun | StoppedRun
ActAt = tuple[datetime, Act]


class ServerName(NamedTuple):
    """A server: the name of its machine, and its data directory."""

    host: str
    data_dir: str


class EarlierStart(NamedTuple):
    """The settings of a start that was told before, or is about to be."""

    at: str
    host: str
    run: str
    settings: ToldSettings

    @property
    def server(self) -> ServerName:
        """Return which server it was."""
        return ServerName(self.host, str(self.settings.values.get(DATA_DIR)))


class KnownRuns(NamedTuple):
    """Earlier runs, as the trail tells them.

    ``last`` is the last start of each server, ``newest`` the last of all; ``stopped`` are the runs
    that stopped in order, ``seen`` the times of the entries before the first of the new starts.
    """

    last: Mapping[ServerName, EarlierStart]
    newest: EarlierStart | None
    stopped: frozenset[str]
    seen: Mapping[ServerName, str]


def run_row(org_id: int, at: datetime, act: Act) -> PendingAct:
    """Return a start or a stop as a row that waits."""
    body = msgspec.msgpack.encode(ActRow(from_datetime(at), [act]))
    return PendingAct(secrets.token_bytes(ID_BYTES), org_id, RUN, at, body)


def acts_of(staged: Sequence[tuple[PendingAct, ActRow]]) -> list[ActAt]:
    """Return what rows hold."""
    return [(act.at, msgspec.convert(item, Act)) for act, row in staged for item in row.items]


def first_starts(acts: Sequence[ActAt]) -> dict[ServerName, datetime]:
    """Return when each server started first."""
    found: dict[ServerName, datetime] = {}
    for at, act in acts:
        if isinstance(act, StartedRun):
            found.setdefault(_start(at, act).server, at)
    return found


def runs_told(acts: Sequence[ActAt], known: KnownRuns) -> Iterator[ServerStarted | ServerStopped]:
    """Yield the payloads that tell acts, which are ordered by time: first starts, then stops."""
    stops = [(at, act) for at, act in acts if isinstance(act, StoppedRun)]
    stopped = known.stopped | {act.run for _, act in stops}
    last, newest = dict(known.last), known.newest
    seen = dict(known.seen)
    starts: dict[ServerName, list[tuple[EarlierStart, ServerStart]]] = {}
    for at, act in acts:
        if isinstance(act, StoppedRun):
            continue
        this = _start(at, act)
        before = last.get(this.server)
        start = _told(this, act, before or newest)
        if before is not None:
            start.previous_stop = "orderly" if before.run in stopped else "unknown"
        if start.previous_stop == "unknown" and before is not None:
            start.last_seen = max(before.at, seen.pop(this.server, before.at))
        starts.setdefault(this.server, []).append((this, start))
        last[this.server] = newest = this
    for told in starts.values():
        yield from _started(told)
    for first in range(0, len(stops), MAX_STOPS):
        yield ServerStopped(
            stops=[
                ServerStop(at=rfc3339(at), host=act.host, run=act.run, reason=act.reason)
                for at, act in stops[first : first + MAX_STOPS]
            ]
        )


def _start(at: datetime, act: StartedRun) -> EarlierStart:
    return EarlierStart(rfc3339(at), act.host, act.run, act.settings)


def _told(this: EarlierStart, act: StartedRun, base: EarlierStart | None) -> ServerStart:
    compared = None if base is None else ComparedStart(at=base.at, host=base.host, run=base.run)
    return ServerStart(
        at=this.at,
        run=this.run,
        version=act.version,
        processes=act.processes,
        compared_with=compared,
        changed=None if base is None else list(changes(base.settings, this.settings)),
        previous_stop=None,
        last_seen=None,
    )


def _started(told: Sequence[tuple[EarlierStart, ServerStart]]) -> Iterator[ServerStarted]:
    """Yield the starts of one server as entries of a bounded size."""
    part: list[ServerStart] = []
    count = 0
    for place, (this, start) in enumerate(told, 1):
        part.append(start)
        count += len(start.changed or ())
        if place == len(told) or len(part) == MAX_STARTS or count >= MAX_CHANGES:
            values, hidden = this.settings
            yield ServerStarted(host=this.host, starts=part, settings=values, secrets=hidden)
            part, count = [], 0


def changes(before: ToldSettings, after: ToldSettings) -> Iterator[SettingChange]:
    """Yield the settings that differ, in the order of their names."""
    for name in sorted({*before.values, *before.secrets, *after.values, *after.secrets}):
        secret = name in before.secrets or name in after.secrets
        if before.values.get(name) != after.values.get(name) or (
            before.secrets.get(name) != after.secrets.get(name)
        ):
            was, now = (_value(told, name, secret=secret) for told in (before, after))
            yield SettingChange(name=name, secret=secret, before=was, after=now)


def _value(told: ToldSettings, name: str, *, secret: bool) -> str | int | float | bool | None:
    if not secret:
        return told.values.get(name)
    is_set = (told.secrets.get(name) or told.values.get(name)) is not None
    return "set" if is_set else "not set"
