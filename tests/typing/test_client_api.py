"""The client's types accept its users' code and refuse their mistakes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_public_api_type_checks_as_a_user_calls_it(tmp_path: Path) -> None:
    # Each `type: ignore` in the file marks a mistake; an unused one is an error.
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.fspath(tmp_path)]
    checked = subprocess.run(
        [*command, "--warn-unused-ignores", "tests/typing/client_api.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
