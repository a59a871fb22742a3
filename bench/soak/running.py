"""A server under attack: what it holds, and one way after another against it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import psutil
from msgspec import Struct

from bench.soak.hostile import NDJSON
from bench.soak.probe import Bystander, Latencies
from bench.soak.ways import WAYS, Attack
from bench.soak.wire import Wire
from tests.support.quire_process import QuireProcess

MOST_RATIO: Final = 5.0
MOST_GROWTH_MIB: Final = 256
SPARE_FILES: Final = 16
"""Files and connections that a server may hold more than before, as pools grow under load."""
LEAVING_S: Final = 90.0
SETTLE_S: Final = 1.0


class SoakSize(Struct, frozen=True):
    """How large the attacks are, and how long others are measured."""

    connections: int = 200
    persons: int = 200_000
    entries: int = 100_000
    """Entries of the hostile org before it begins."""
    rounds: int = 300
    limit_s: float = 30.0


SHORT: Final = SoakSize(connections=40, persons=4_000, entries=2_000, rounds=20, limit_s=3.0)


class Holdings(Struct):
    """What the server's own processes hold, without PostgreSQL."""

    memory_mib: float
    files: int


class WayResult(Struct):
    """What one way did to another org and to the server."""

    way: str
    quiet: Latencies
    attacked: Latencies
    before: Holdings
    after: Holdings

    def ratio(self, of: str) -> float:
        """Return the p99 under attack, in relation to quiet."""
        quiet = self.quiet.percentile(of, 99)
        return self.attacked.percentile(of, 99) / quiet if quiet else 0.0

    @property
    def growth_mib(self) -> float:
        """The memory that the server did not give back."""
        return self.after.memory_mib - self.before.memory_mib

    @property
    def left(self) -> int:
        """Files and connections that were left."""
        return max(0, self.after.files - self.before.files)

    def faults(self, most_ratio: float = MOST_RATIO) -> list[str]:
        """Return what is beyond its bound."""
        found = [
            f"p99 of {of} is {self.ratio(of):.1f} times that of quiet"
            for of in ("append", "read")
            if self.ratio(of) > most_ratio
        ]
        if self.attacked.refused:
            found.append(f"{len(self.attacked.refused)} refused: {self.attacked.refused[0]}")
        if self.growth_mib > MOST_GROWTH_MIB:
            found.append(f"memory grew by {self.growth_mib:.0f} MiB")
        if self.left > SPARE_FILES:
            found.append(f"{self.left} files and connections are left")
        return found


class Soak:
    """The ways against one running server, which has a hostile org and a bystander."""

    def __init__(self, server: QuireProcess, size: SoakSize) -> None:
        self._server = server
        self._size = size
        hostile, key = server.create_org("sealed")
        other, other_key = server.create_org("sealed")
        self._attack = Attack(server.port, hostile, key, size.connections, size.persons)
        self._bystander = Bystander(server.port, other, other_key)

    def prepare(self) -> None:
        """Give the hostile org its entries, and let the other org work until it is warm."""
        asyncio.run(self._fill())
        asyncio.run(self._bystander.work(50, self._size.limit_s))

    async def _fill(self) -> None:
        wire = await Wire.open(self._server.port)
        events = 5_000
        for _ in range(0, self._size.entries, events):
            lines = (
                json.dumps({"event_type": "fill", "n": n, "text": "x" * 400}) for n in range(events)
            )
            body = "\n".join(lines).encode()
            path = f"{self._attack.path}/entries"
            assert (await wire.ask("POST", path, body, self._attack.key, NDJSON)).status == 201
        wire.close()

    def holdings(self) -> Holdings:
        """Return what the server's processes hold now."""
        memory = files = 0
        root = psutil.Process(self._server.process.pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                if "postgres" not in process.name():
                    memory += process.memory_info().rss
                    files += process.num_fds()
        return Holdings(memory / (1 << 20), files)

    def run(self, way: str) -> WayResult:
        """Measure quiet, attack in one way and measure again, and wait until it has gone."""
        size = self._size
        before = self.holdings()
        quiet = asyncio.run(self._bystander.work(size.rounds, size.limit_s))
        with self._attacking(way):
            attacked = asyncio.run(self._bystander.work(size.rounds, size.limit_s))
        return WayResult(way, quiet, attacked, before, self._gone(before))

    @contextmanager
    def _attacking(self, way: str) -> Iterator[None]:
        # Niced: the machine's processor is not what is measured.
        command = ["nice", "-n", "5", sys.executable, "-m", "bench.soak.ways", way]
        encoded = msgspec.json.encode(self._attack).decode()
        with subprocess.Popen([*command, encoded], stdin=subprocess.PIPE) as attacker:
            time.sleep(SETTLE_S)
            try:
                assert attacker.poll() is None, f"the attack {way} ended by itself"
                yield
            finally:
                assert attacker.stdin is not None
                attacker.stdin.close()
                attacker.wait()

    def _gone(self, before: Holdings) -> Holdings:
        """Wait until files and connections are as few as before; return what is held then."""
        deadline = time.monotonic() + LEAVING_S
        while (now := self.holdings()).files > before.files + SPARE_FILES:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return now


__all__ = ["SHORT", "WAYS", "Soak", "SoakSize", "WayResult"]
