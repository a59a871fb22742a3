"""The payloads of the entries that tell when servers started and stopped."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from ledger.shapes import TimeText
from server.settings.told import ToldValue
from server.trails.own.payloads import Count

STARTED: Final = "quire.server_started"
STOPPED: Final = "quire.server_stopped"
HostText = Annotated[str, Meta(examples=["quire-1.example.com"])]
RunText = Annotated[str, Meta(examples=["6b1f8c0d2e4a9753"])]
Setting = Annotated[str, Meta(examples=["QUIRE_WORKERS"])]
Digest = Annotated[str, Meta(examples=["0f47c1b39a6de8255b7e90c4d1a8f362"])]


class SettingChange(Struct, kw_only=True):
    """A setting that has another value than before."""

    name: Setting
    """The name of its variable."""
    secret: bool
    """Whether its values are secret; then they are told as "set" and "not set"."""
    before: Annotated[ToldValue, Meta(examples=[1])]
    """The value before; null: it had none."""
    after: Annotated[ToldValue, Meta(examples=[4])]
    """The value now; null: it has none."""


class ComparedStart(Struct, kw_only=True):
    """An earlier start."""

    at: TimeText
    """When that server started."""
    host: HostText
    """Its machine."""
    run: RunText
    """The id of its run."""


class ServerStart(Struct, kw_only=True):
    """One start of a server."""

    at: TimeText
    """When its database was ready, just before it answered requests."""
    run: RunText
    """The id of this run; `quire.server_stopped` names it again."""
    version: Annotated[str, Meta(examples=["0.9.0"])]
    """The version of Quire."""
    processes: Count
    """How many processes answer requests."""
    compared_with: ComparedStart | None
    """The start whose settings these were compared with: the last one of this server; of another
    server where this one is new; null: none of the newest 200 entries of this kind can be read."""
    changed: list[SettingChange] | None
    """The settings that differ from it; null: there is nothing to compare with."""
    previous_stop: Literal["orderly", "unknown"] | None
    """How the run before ended: `orderly`, as its `quire.server_stopped` says, else `unknown` (a
    kill, a crash, a loss of power, or a database that was away); null: no earlier run is known."""
    last_seen: TimeText | None
    """Where that is unknown: the last time at which it is known that the run before still lasted,
    or that another server wrote to the trail `system`."""


class ServerStarted(Struct, kw_only=True):
    """A server started; or several times, since it was last told."""

    event_type: Literal["quire.server_started"] = "quire.server_started"
    actor: Literal["server"] = "server"
    action: Literal["start"] = "start"
    host: HostText
    """The name of its machine. Host and `QUIRE_DATA_DIR` say which server it is."""
    starts: list[ServerStart]
    """Its starts, the oldest first."""
    settings: Annotated[dict[Setting, ToldValue], Meta(examples=[{"QUIRE_WORKERS": 4}])]
    """The settings in force after the last of these starts."""
    secrets: Annotated[dict[Setting, Digest | None], Meta(examples=[{"QUIRE_MASTER_KEY": None}])]
    """The settings that are secret: a digest under a key of the server, by which equal values are
    recognised; null: not set."""


class ServerStop(Struct, kw_only=True):
    """One orderly stop of a server."""

    at: TimeText
    """When it answered no more requests."""
    host: HostText
    """The name of its machine."""
    run: RunText
    """The id of the run that ended."""
    reason: Literal["SIGTERM", "SIGINT", "failed"]
    """The signal that it was sent; `failed`: it ended by itself."""


class ServerStopped(Struct, kw_only=True):
    """Servers stopped in order."""

    event_type: Literal["quire.server_stopped"] = "quire.server_stopped"
    actor: Literal["server"] = "server"
    action: Literal["stop"] = "stop"
    stops: list[ServerStop]
    """The stops, the oldest first."""
