"""Exits 1 unless every test of the suite ran and passed, according to pytest's JUnit report.

Usage: everything_ran.py REPORT.xml
"""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

TEST_FUNCTION = re.compile(r"^\s*(async )?def test_", re.MULTILINE)


def main() -> int:
    faults = [*_uncollected_files(), *_missing_passes(Path(sys.argv[1]))]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _uncollected_files() -> list[str]:
    """Files that contain tests but have a name that pytest does not collect."""
    return [
        f"{path}: holds tests, but pytest collects only test_*.py"
        for path in Path("tests").rglob("*.py")
        if not path.name.startswith("test_") and TEST_FUNCTION.search(path.read_text())
    ]


def _missing_passes(report: Path) -> list[str]:
    suite = ET.parse(report).getroot().find("testsuite")
    if suite is None:
        return [f"{report}: holds no test suite"]
    bad = {kind: int(suite.attrib[kind]) for kind in ("failures", "errors", "skipped")}
    passed = int(suite.attrib["tests"]) - sum(bad.values())
    collected = _collected()
    faults = [f"{count} {kind} in the suite" for kind, count in bad.items() if count]
    if passed == 0 or passed != collected:
        faults.append(f"{collected} tests collected, {passed} passed")
    return faults


def _collected() -> int:
    """The number of tests that a plain `pytest` runs: all but those marked torture or slow."""
    listing = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sum("::" in line for line in listing.splitlines())


if __name__ == "__main__":
    sys.exit(main())
