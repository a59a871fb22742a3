"""The ways in which one org, or a stranger, may hold up others. Each runs until it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, cast

import msgspec

from bench.soak.hostile import NDJSON, hostile
from bench.soak.wire import HttpReply, Wire, head

_DRIP_S: Final = 0.5
_PAUSE_S: Final = 0.05


class Attack(msgspec.Struct):
    """Where the attack goes, with which key, and how large it is."""

    port: int
    org: str
    key: str
    connections: int
    persons: int

    @property
    def path(self) -> str:
        """The path of the attacker's org."""
        return f"/v1/orgs/{self.org}"


Turn = Callable[[Wire], Awaitable[object]]
Way = Callable[[Attack], Awaitable[None]]


async def repeated(attack: Attack, turn: Turn, connections: int) -> None:
    """Take a turn again and again on many connections, each opened again when it ends."""

    async def keep_on() -> None:
        while True:
            with contextlib.suppress(OSError, EOFError, ValueError):
                wire = await Wire.open(attack.port)
                try:
                    while True:
                        await turn(wire)
                finally:
                    wire.close()
            await asyncio.sleep(_PAUSE_S)

    await asyncio.gather(*(keep_on() for _ in range(connections)))


async def connections(attack: Attack) -> None:
    """Connections without number, on which nothing is sent."""
    await repeated(attack, lambda wire: wire.reader.readexactly(1), attack.connections * 5)


async def slow_heads(attack: Attack) -> None:
    """Heads of requests that arrive byte by byte."""

    async def drip(wire: Wire) -> None:
        wire.writer.write(b"GET /livez HTTP/1.1\r\nx: ")
        while True:
            wire.writer.write(b"x")
            await wire.writer.drain()
            await asyncio.sleep(_DRIP_S)

    await repeated(attack, drip, attack.connections)


async def slow_bodies(attack: Attack) -> None:
    """Bodies that arrive byte by byte, with a key and without."""
    keys = itertools.cycle([attack.key, ""])

    async def drip(wire: Wire) -> None:
        wire.writer.write(head("POST", f"{attack.path}/entries", 1_000_000, next(keys)))
        while True:
            wire.writer.write(b" ")
            await wire.writer.drain()
            await asyncio.sleep(_DRIP_S)

    await repeated(attack, drip, attack.connections)


async def undrained(attack: Attack) -> None:
    """Large answers that nobody reads."""
    asked = head("GET", "/static/swagger-ui/swagger-ui-bundle.js", 0) * 6

    async def ask(wire: Wire) -> None:
        cast("asyncio.Transport", wire.writer.transport).pause_reading()
        wire.writer.write(asked)
        while not wire.writer.is_closing():  # noqa: ASYNC110 - nothing tells that it was closed
            await asyncio.sleep(_DRIP_S)
        raise EOFError

    await repeated(attack, ask, attack.connections)


async def hostile_bodies(attack: Attack) -> None:
    """Bodies that each parser works hard on."""
    bodies = itertools.cycle(list(hostile()))

    async def send(wire: Wire) -> None:
        kind, body = next(bodies)
        await wire.ask("POST", f"{attack.path}/entries", body, attack.key, kind)

    await repeated(attack, send, max(2, attack.connections // 8))


async def searches(attack: Attack) -> None:
    """Searches that read much and find nothing."""
    path = f"{attack.path}/entries?event_type=nomatch"
    await repeated(attack, lambda wire: wire.ask("GET", path, key=attack.key), attack.connections)


async def persons(attack: Attack) -> None:
    """Two new persons in each event, until the org has very many."""
    numbers = itertools.count()
    events = min(10_000, attack.persons)

    async def append(wire: Wire) -> None:
        first = next(numbers) * 2 * events
        if first >= attack.persons:
            await asyncio.sleep(_DRIP_S)
            return
        lines = (
            json.dumps({"actor": f"u{first + 2 * n}", "subject": f"u{first + 2 * n + 1}"})
            for n in range(events)
        )
        body = "\n".join(lines).encode()
        await wire.ask("POST", f"{attack.path}/entries", body, attack.key, NDJSON)

    await repeated(attack, append, 2)


async def slow_bundles(attack: Attack) -> None:
    """Bundles that are read a KiB at a time."""
    body = b'{"from_seq":0,"include_pq_attestation":false}'

    async def read(wire: Wire) -> None:
        wire.writer.write(head("POST", f"{attack.path}/bundles", len(body), attack.key) + body)
        while piece := await wire.reader.read(1_024):
            assert piece
            await asyncio.sleep(_DRIP_S)
        raise EOFError

    await repeated(attack, read, 8)


async def verifications(attack: Attack) -> None:
    """As many verifications of a long trail as the org may have."""

    async def verify(wire: Wire) -> HttpReply:
        return await wire.ask("POST", f"{attack.path}/verifications?wait=5", b"{}", attack.key)

    await repeated(attack, verify, 4)


async def refused_logins(attack: Attack) -> None:
    """API keys that do not exist."""

    async def guess(wire: Wire) -> HttpReply:
        key = f"quire_live_{secrets.token_hex(8)}_{secrets.token_hex(24)}"
        return await wire.ask("GET", "/v1/whoami", key=key)

    await repeated(attack, guess, attack.connections)


async def junk_keys(attack: Attack) -> None:
    """Texts that are no API keys, on very many connections: each is refused without the database."""

    async def send(wire: Wire) -> HttpReply:
        return await wire.ask("GET", "/v1/whoami", key=secrets.token_hex(100))

    await repeated(attack, send, attack.connections * 5)


async def cheap_requests(attack: Attack) -> None:
    """Requests that cost little, on very many connections, by a key of the org and by strangers."""
    keys = itertools.cycle([attack.key, ""])

    async def ask(wire: Wire) -> HttpReply:
        return await wire.ask("GET", "/v1/whoami" if (key := next(keys)) else "/livez", key=key)

    await repeated(attack, ask, attack.connections * 5)


async def arrivals(attack: Attack) -> None:
    """Very many connections that arrive together, ask once and leave."""

    async def visit() -> None:
        with contextlib.suppress(OSError, EOFError):
            wire = await Wire.open(attack.port)
            try:
                await wire.ask("GET", "/livez")
            finally:
                wire.close()

    while True:
        await asyncio.gather(*(visit() for _ in range(attack.connections * 5)))


async def created_keys(attack: Attack) -> None:
    """API keys made one after another."""

    async def create(wire: Wire) -> HttpReply:
        body = b'{"name":"soak","role":"viewer"}'
        return await wire.ask("POST", f"{attack.path}/keys", body, attack.key)

    await repeated(attack, create, 8)


async def new_names(attack: Attack) -> None:
    """Single events, each of a new person, on many connections: every one asks the database."""

    async def append(wire: Wire) -> HttpReply:
        body = json.dumps({"actor": secrets.token_hex(8)}).encode()
        return await wire.ask("POST", f"{attack.path}/entries", body, attack.key)

    await repeated(attack, append, attack.connections)


async def allowed_flood(attack: Attack) -> None:
    """Single events, as many as are taken, for a comparison with those that are refused."""

    async def append(wire: Wire) -> HttpReply:
        return await wire.ask("POST", f"{attack.path}/entries", b'{"n":1}', attack.key)

    await repeated(attack, append, attack.connections)


async def refused_flood(attack: Attack) -> None:
    """The same events, of an org that may append once a minute: all others are refused."""

    async def limit(count: int | None) -> None:
        wire = await Wire.open(attack.port)
        body = json.dumps({"key": {"append_per_minute": count}, "org": {}}).encode()
        assert (await wire.ask("PUT", f"{attack.path}/limits", body, attack.key)).status == 200
        wire.close()

    await limit(1)
    try:
        await allowed_flood(attack)
    finally:
        await limit(None)


async def pipelined(attack: Attack) -> None:
    """Many reads of the whole newest page in one packet, answered one after another."""
    count = 20
    asked = head("GET", f"{attack.path}/entries?limit=1000", 0, attack.key) * count

    async def ask(wire: Wire) -> None:
        wire.writer.write(asked)
        for _ in range(count):
            await wire.answer()

    await repeated(attack, ask, max(2, attack.connections // 4))


WAYS: Final[dict[str, Way]] = {
    way.__name__: way
    for way in (
        connections,
        slow_heads,
        slow_bodies,
        undrained,
        hostile_bodies,
        searches,
        persons,
        slow_bundles,
        verifications,
        refused_logins,
        junk_keys,
        cheap_requests,
        arrivals,
        created_keys,
        new_names,
        pipelined,
        allowed_flood,
        refused_flood,
    )
}


async def run(name: str, attack: Attack, stop: Awaitable[object]) -> None:
    """Attack in one way until ``stop`` ends."""
    attacking = asyncio.ensure_future(WAYS[name](attack))
    await stop
    attacking.cancel()
    await asyncio.gather(attacking, return_exceptions=True)


async def _until_stdin_ends() -> None:
    await asyncio.to_thread(os.read, 0, 1)


def main() -> None:
    """Attack as a process of its own: the name of the way and the attack are arguments."""
    import sys  # noqa: PLC0415 - only as a program

    attack = msgspec.json.decode(sys.argv[2], type=Attack)
    asyncio.run(run(sys.argv[1], attack, _until_stdin_ends()))


if __name__ == "__main__":
    main()
