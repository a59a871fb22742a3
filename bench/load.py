"""The load client, a separate process: orders on stdin, outcomes on stdout, one line each."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, Self

import msgspec
import uvloop

from bench import events, wire

BATCH_EVENTS: Final = 1_000
DISTINCT_BATCHES: Final = 20
DISTINCT_SINGLES: Final = 5_000
LIMIT_S: Final = 180.0


class Target(msgspec.Struct):
    """The target of requests: a path, and the API key to send ("" for none)."""

    path: str
    key: str = ""


class LoadOrder(msgspec.Struct, kw_only=True):
    """An order of ``requests`` over ``connections``, spread over the targets in turn.

    ``batch``: bodies of 1,000 events, else of one event; ``get``: no body.
    ``minimal`` requests minimal answers; ``refusable``: a request may be refused with 429. ``rate``: requests per second, or 0 to
    send each as soon as the previous one is answered.
    """

    port: int
    targets: Sequence[Target]
    requests: int
    connections: int
    batch: bool = False
    get: bool = False
    minimal: bool = False
    refusable: bool = False
    rate: float = 0.0


class LoadOutcome(msgspec.Struct):
    """Seconds from the first sent byte to the last answer, and of each request; or the failure."""

    seconds: float = 0.0
    latencies_s: list[float] = []
    failure: str | None = None


class LoadFailed(Exception):
    """The load client got an unexpected answer."""


class LoadClient:
    """Starts and controls the load client's process; a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, order: LoadOrder) -> LoadOutcome:
        """Carry out one order. Raises LoadFailed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(msgspec.json.encode(order) + b"\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise LoadFailed("the load client ended")
        outcome = msgspec.json.decode(line, type=LoadOutcome)
        if outcome.failure is not None:
            raise LoadFailed(outcome.failure)
        return outcome


def _parts(order: LoadOrder) -> Callable[[int], list[bytes]]:
    """Return a function that gives the parts of request number n."""
    if order.get:
        heads = [_head(order, target, None) for target in order.targets]
        return lambda number: [heads[number % len(heads)]]
    if order.batch:
        bodies = [
            events.batch(n * BATCH_EVENTS, BATCH_EVENTS)
            for n in range(min(DISTINCT_BATCHES, order.requests))
        ]
    else:
        bodies = [events.event(n) for n in range(DISTINCT_SINGLES)]
    heads = [_head(order, target, len(bodies[0])) for target in order.targets]
    return lambda number: [heads[number % len(heads)], bodies[number % len(bodies)]]


def _head(order: LoadOrder, target: Target, size: int | None) -> bytes:
    lines = [f"{'GET' if order.get else 'POST'} {target.path} HTTP/1.1", "Host: 127.0.0.1"]
    if target.key:
        lines.append(f"x-api-key: {target.key}")
    if size is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {size}"]
    if order.minimal:
        lines.append("Prefer: return=minimal")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _carry_out(order: LoadOrder) -> LoadOutcome:
    parts = _parts(order)
    connections = await wire.connect(order.port, order.connections)
    expected = (200 if order.get else 201, *((429,) if order.refusable else ()))
    work = wire.Work(parts, order.requests, expected, order.rate)
    started = time.perf_counter()
    for connection in connections:
        connection.begin(work)
    try:
        async with asyncio.timeout(LIMIT_S):
            await work.finished
    except (wire.BadAnswer, TimeoutError) as error:
        reason = str(error) or f"not finished within {LIMIT_S:.0f} s"
        answered = f"{len(work.latencies_s)} of {order.requests} requests answered"
        return LoadOutcome(failure=f"{answered}: {reason}")
    finally:
        for connection in connections:
            connection.close()
    return LoadOutcome(time.perf_counter() - started, work.latencies_s)


def main() -> None:
    """Carry out orders until stdin ends."""
    # If standard output is unbuffered (PYTHONUNBUFFERED), one write may write only a part.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as outcomes:
        for line in sys.stdin.buffer:
            outcome = uvloop.run(_carry_out(msgspec.json.decode(line, type=LoadOrder)))
            outcomes.write(msgspec.json.encode(outcome) + b"\n")
            outcomes.flush()


if __name__ == "__main__":
    main()
