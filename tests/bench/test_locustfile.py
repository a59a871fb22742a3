"""The locustfile's users work against a real server."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from tests.support.serving import Server

LOCUSTFILE = Path(__file__).parents[2] / "bench" / "locustfile.py"
NAMES = {"append one", "append a batch", "newest page", "by subject", "head", "verify"}


def test_every_user_is_answered(server: Server, tmp_path: Path) -> None:
    # A verifying user that finds an empty trail waits for seconds.
    server.request("POST", f"/v1/orgs/{server.org}/entries", {"n": 1}, key=server.admin_key)
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", server.url]
    bounds = ["--headless", "-u", "18", "-r", "18", "-t", "6s", "--stop-timeout", "30"]
    done = subprocess.run(
        [*command, *bounds, "--csv", str(tmp_path / "load"), "--only-summary"],
        cwd=LOCUSTFILE.parents[1],
        env=os.environ | {"BENCH_ORG": server.org, "QUIRE_API_KEY": server.admin_key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    with (tmp_path / "load_stats.csv").open() as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows.keys() >= NAMES
    assert all(int(row["Request Count"]) > 0 for row in rows.values())
    assert all(row["Failure Count"] == "0" for row in rows.values())
