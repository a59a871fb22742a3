"""The client's types hold for its users, mistakes included."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_public_api_type_checks_as_a_user_calls_it(tmp_path: Path) -> None:
    # Every `type: ignore` in the file stands on a mistake: unused ones are errors.
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.fspath(tmp_path)]
    checked = subprocess.run(
        [*command, "--warn-unused-ignores", "tests/typing/client_api.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
