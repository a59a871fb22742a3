"""`python -m bench.soak`: attack a server of its own in each way, and print what it did to others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.soak.running import SHORT, WAYS, Soak, SoakSize, WayResult
from bench.stage import reaped_directory
from tests.support.quire_process import QuireProcess

_NAMES = (
    "way", "quiet50", "quiet99", "append99", "ratio", "quiet99", "read99", "ratio", "before", "after",
    "left", "faults",
)  # fmt: skip
_COLUMNS = "{:16} {:>9} {:>9} {:>9} {:>6}  {:>9} {:>9} {:>6}  {:>8} {:>8} {:>5}  {}"


def table(results: Sequence[WayResult]) -> str:
    """Return one line for each way, in milliseconds and MiB."""
    lines = [_COLUMNS.format(*_NAMES)]
    for one in results:
        numbers = [
            one.quiet.percentile("append", 50),
            one.quiet.percentile("append", 99),
            one.attacked.percentile("append", 99),
            one.ratio("append"),
            one.quiet.percentile("read", 99),
            one.attacked.percentile("read", 99),
            one.ratio("read"),
            one.before.memory_mib,
            one.after.memory_mib,
        ]
        shown = [f"{number:.1f}" for number in numbers]
        lines.append(_COLUMNS.format(one.way, *shown, one.left, "; ".join(one.faults()) or "none"))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ways; 1 where one is beyond its bounds."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--quick", action="store_true", help="small attacks, measured shortly")
    parser.add_argument("--ways", default=",".join(WAYS), help="names with commas between them")
    parser.add_argument("--json", type=Path, default=Path("bench/results/soak.json"))
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    with reaped_directory() as directory:
        server = QuireProcess(directory / "data", workers=given.workers)
        server.start()
        try:
            soak = Soak(server, SHORT if given.quick else SoakSize())
            soak.prepare()
            results = [soak.run(way) for way in given.ways.split(",")]
        finally:
            server.terminate()
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    print(table(results))
    return int(any(one.faults() for one in results))


if __name__ == "__main__":
    sys.exit(main())
