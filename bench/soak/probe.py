"""The other org: appends and reads one after another, and how long each takes."""

from __future__ import annotations

import json
import time

from msgspec import Struct

from bench.soak.wire import Wire


class Latencies(Struct):
    """Milliseconds of appends and reads, and the answers that were no success."""

    append_ms: list[float] = []
    read_ms: list[float] = []
    refused: list[str] = []

    def percentile(self, of: str, percent: float) -> float:
        """Return a percentile of "append" or "read", in milliseconds."""
        times = sorted(self.append_ms if of == "append" else self.read_ms)
        return times[min(len(times) - 1, int(len(times) * percent / 100))] if times else 0.0


class Bystander(Struct):
    """An org that does nothing to anybody."""

    port: int
    org: str
    key: str

    async def work(self, rounds: int, limit_s: float) -> Latencies:
        """Append and read ``rounds`` times, for ``limit_s`` at most (but ten times at least)."""
        found = Latencies()
        deadline = time.monotonic() + limit_s
        for number in range(rounds):
            if number >= 10 and time.monotonic() > deadline:
                break
            try:
                await self._round(found)
            except (OSError, EOFError) as error:
                found.refused.append(type(error).__name__)
        return found

    async def _round(self, found: Latencies) -> None:
        wire = await Wire.open(self.port)
        try:
            began = time.perf_counter()
            path = f"/v1/orgs/{self.org}/entries"
            reply = await wire.ask("POST", path, b'{"actor":"ada","event_type":"met"}', self.key)
            found.append_ms.append((time.perf_counter() - began) * 1e3)
            if reply.status != 201:
                found.refused.append(f"append {reply.status}")
                return
            record = json.loads(reply.body)["record_id"]
            began = time.perf_counter()
            reply = await wire.ask("GET", f"{path}/{record}", key=self.key)
            found.read_ms.append((time.perf_counter() - began) * 1e3)
            if reply.status != 200:
                found.refused.append(f"read {reply.status}")
        finally:
            wire.close()
