"""Keys are made and ended, limits set, addresses blocked, and reviews recorded, by processes that end by kill -9."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clusters import Database


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_act_killed_at_any_step_is_whole_and_can_be_repeated(
    database: Database, tmp_path: Path
) -> None:
    urls = [database.owner_url, database.server_url, database.superuser_url]
    command = [sys.executable, "-m", "tests.torture.killed_changes", database.name, *urls]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    kills = dict(line.split() for line in done.stdout.splitlines())
    assert kills.keys() == {"create", "rotate", "revoke", "limit", "block", "lift", "review"}
    assert all(int(number) >= 4 for number in kills.values()), kills
