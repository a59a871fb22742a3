"""The rows on evidence: `quire-verify` as a process, on many entries and on one."""

from __future__ import annotations

import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Final

from blake3 import blake3

from bench.figures import Figure, in_turns, value
from bench.scope import Scope
from tests.support.evidence import scene

ENTRIES: Final = 10_000
LEAST_ENTRIES: Final = 100
TURNS: Final = 7
_VERIFY: Final = ("-m", "ledger.evidence.cli")
_VERIFY_AND_PRINT_PEAK: Final = """
import re, sys
from ledger.evidence.cli import main
assert main(sys.argv[1:]) == 0
sys.stderr.write(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


class VerdictWrong(Exception):
    """A valid bundle did not verify."""


def bundle_verify(scope: Scope) -> Figure:
    """Measure the seconds to the verdict on 10,000 entries, against hashing the file's bytes."""
    count = scope.whole(ENTRIES, least=LEAST_ENTRIES)
    bundle = _written(scope, count)
    ours, theirs = in_turns(
        lambda: _run(*_VERIFY, str(bundle)), lambda: _hash(bundle), scope.runs(TURNS)
    )
    return value(
        "s",
        ours,
        theirs,
        {
            "entries_per_s": round(count / median(ours), 1),
            "peak_mib": round(_peak_mib(bundle), 1),
            "bundle_mib": round(bundle.stat().st_size / 2**20, 1),
        },
    )


def verifier_start(scope: Scope) -> Figure:
    """Measure the seconds to the verdict on one entry, against an idle interpreter."""
    bundle = _written(scope, 1)
    ours, theirs = in_turns(
        lambda: _run(*_VERIFY, str(bundle)), lambda: _run("-c", ""), scope.runs(TURNS)
    )
    return value("s", ours, theirs)


def _written(scope: Scope, count: int) -> Path:
    path = scope.stage.directory / f"evidence-{count}.zip"
    path.write_bytes(scene(count).bundle())
    return path


def _hash(path: Path) -> float:
    """Return the seconds to read a file and hash it with SHA-256 and BLAKE3."""
    started = time.perf_counter()
    data = path.read_bytes()
    sha256(data).digest()
    blake3(data).digest()
    return time.perf_counter() - started


def _run(*arguments: str) -> float:
    """Return the seconds from an interpreter's start to its end."""
    started = time.perf_counter()
    status = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=False)
    if status.returncode != 0:
        raise VerdictWrong(f"python {' '.join(arguments)} exited with {status.returncode}")
    return time.perf_counter() - started


def _peak_mib(bundle: Path) -> float:
    """Return the largest resident memory of another run, which prints it."""
    command = [sys.executable, "-c", _VERIFY_AND_PRINT_PEAK, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stderr) / 1024
