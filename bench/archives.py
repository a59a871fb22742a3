"""The row on archives: the speed of verifying an archive in a folder."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Final

from blake3 import blake3

from bench.archived import HISTORY, SLUG, lay
from bench.figures import Figure, in_turns, ratio
from bench.scope import Scope
from ledger.archive.targets import open_target
from ledger.archive.verification.findings import ArchiveVerdict
from ledger.archive.verification.run import ArchiveVerification, ArchiveVerificationOptions

ENTRIES: Final = 2_000_000
LEAST_ENTRIES: Final = 2_000
MB: Final = 1_000_000


class VerdictWrong(Exception):
    """A valid archive did not verify."""


def archive_verify(scope: Scope) -> Figure:
    """Measure verifying all objects of an archive against BLAKE3 and SHA-256 of the same bytes."""
    count = scope.whole(ENTRIES, least=LEAST_ENTRIES)
    root = scope.stage.directory / "archive"
    folder = lay(root, count)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    ours, theirs = in_turns(
        lambda: size / MB / _verify(root, count),
        lambda: size / MB / _hash(files),
        scope.runs(3),
    )
    per_entry = size / MB / count
    extra = {"entries_per_s": round(median(ours) / per_entry), "archive_mb": round(size / MB)}
    return ratio("MB/s", ours, theirs, {name: float(number) for name, number in extra.items()})


def _verify(root: Path, count: int) -> float:
    """Return the seconds from the call to the verdict, on all cores."""
    started = time.perf_counter()
    verdict = asyncio.run(_verdict(root))
    took = time.perf_counter() - started
    if not verdict.valid or verdict.entries != count:
        raise VerdictWrong(f"expected {count} valid entries, got {verdict}")
    return took


async def _verdict(root: Path) -> ArchiveVerdict:
    async with open_target(f"file://{root}") as target:
        return await ArchiveVerification(
            target, SLUG, ArchiveVerificationOptions(pins=HISTORY.pins())
        ).run()


def _hash(files: list[Path]) -> float:
    """Return the seconds to read every file and hash it with both, in one process."""
    started = time.perf_counter()
    for path in files:
        data = path.read_bytes()
        blake3(data).digest()
        sha256(data).digest()
    return time.perf_counter() - started
