"""One verification in a separate process: its order on stdin, its outcome on stdout."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Final, NamedTuple

import msgspec
import psutil
import uvloop

from bench.stage import KEYRING, Scratch
from bench.tenants import Tenant
from ledger.core.verification.run import TrailRange, verify_trail
from ledger.core.verification.work.trust import TrailTrust

SAMPLE_S: Final = 0.25


class MeasuredOrder(msgspec.Struct):
    """An order to verify entries 0 to ``count - 1`` of an org's trail; None: the whole trail."""

    database_url: str
    org_id: int
    org: str
    trust: TrailTrust
    count: int | None


class MeasuredOutcome(msgspec.Struct):
    """The seconds from the call to the verdict, and the verdict."""

    seconds: float
    entries: int
    valid: bool


class Verified(NamedTuple):
    """The seconds of a verification, and the peak memory of all its processes in bytes.

    ``rss`` counts shared pages once per process, ``pss`` once in all.
    """

    seconds: float
    rss: int
    pss: int


class VerificationWrong(Exception):
    """A valid trail did not verify."""


def verify(
    scratch: Scratch, org: Tenant, trust: TrailTrust, count: int, *, whole: bool = False
) -> Verified:
    """Verify the first ``count`` entries of a trail with their tree, on all cores."""
    order = MeasuredOrder(scratch.server_url, org.org_id, org.slug, trust, None if whole else count)
    with subprocess.Popen(
        [sys.executable, "-m", "bench.verifier"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        watch = MemoryWatch(process.pid)
        watch.start()
        try:
            output, _ = process.communicate(msgspec.json.encode(order))
        finally:
            process.kill()
            watch.stop()
    outcome = msgspec.json.decode(output, type=MeasuredOutcome)
    if not outcome.valid or outcome.entries != count:
        raise VerificationWrong(f"expected {count} valid entries, got {outcome}")
    return Verified(outcome.seconds, watch.rss, watch.pss)


class MemoryWatch(threading.Thread):
    """Samples the memory of a process and its descendants, and keeps the peak."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.rss = 0
        self.pss = 0

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            rss, pss = _memory(self._pid)
            self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)

    def stop(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self.join()


def _memory(pid: int) -> tuple[int, int]:
    rss = pss = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            full = process.memory_full_info()
            rss += full.rss
            pss += getattr(full, "pss", full.rss)
    except psutil.Error:  # a process has ended, so this is not the peak
        return 0, 0
    return rss, pss


async def _verify(order: MeasuredOrder) -> MeasuredOutcome:
    target = TrailRange(
        order.org_id,
        order.org,
        from_seq=None if order.count is None else 0,
        to_seq=None if order.count is None else order.count - 1,
    )
    started = time.perf_counter()
    result = await verify_trail(order.database_url, target, KEYRING, trust=order.trust)
    valid = result.fault_count == 0 and (order.count is not None or result.checks.tree is True)
    return MeasuredOutcome(time.perf_counter() - started, result.verified_entries, valid)


def main() -> None:
    """Carry out the order."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=MeasuredOrder)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_verify(order))))


if __name__ == "__main__":
    main()
