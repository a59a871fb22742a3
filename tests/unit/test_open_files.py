"""The limit of open files is raised at the start, or the start is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RAISE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from server.http.protocol.open_files import raise_limit
raise_limit(1000, "lower QUIRE_MAX_CONNECTIONS.")
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
SERVE = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
from server.cli.main import main
main(prog_name="quire")
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-c", code, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_soft_limit_is_raised_to_what_is_needed() -> None:
    assert run(RAISE.format(soft=256, hard=2000)).stdout == "(1256, 2000)\n"
    assert run(RAISE.format(soft=1500, hard=2000)).stdout == "(1500, 2000)\n"


def test_a_hard_limit_that_is_too_low_refuses_the_start() -> None:
    refused = run(RAISE.format(soft=256, hard=1000)).stderr
    assert "may open 1000 files, and needs up to 1256" in refused
    assert "ulimit" in refused


def test_a_server_and_a_witness_say_what_to_do(tmp_path: Path) -> None:
    served = run(SERVE, "serve", "--data-dir", str(tmp_path / "q"), "--port", "1")
    assert (served.returncode, "lower QUIRE_MAX_CONNECTIONS" in served.stderr) == (2, True)
    witness = ("--dir", str(tmp_path / "w"))
    run("from server.cli.main import main\nmain()", "witness", "init", "w.example/1", *witness)
    vkey = "log example.org/log+b1bd3e3e+AZgvSz2yQjbSQFdQWVHMVYDHd5tWvN2QxWLTZBqw2LTk\n"
    (tmp_path / "w" / "logs.policy").write_text(f"{vkey}quorum none\n")
    cosigning = run(SERVE, "witness", "serve", *witness)
    assert cosigning.returncode == 2
