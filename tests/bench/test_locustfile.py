"""The locustfile's users work against a real server."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from tests.support.serving import Server
from tests.support.waiting import until

LOCUSTFILE = Path(__file__).parents[2] / "bench" / "locustfile.py"
NAMES = {"append one", "append a batch", "newest page", "by subject", "head", "verify"}


def test_every_user_is_answered(server: Server, tmp_path: Path) -> None:
    # A verifying user that finds an empty trail waits for seconds.
    server.request("POST", f"/v1/orgs/{server.org}/entries", {"n": 1}, key=server.admin_key)
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", server.url]
    bounds = ["--headless", "-u", "18", "-r", "18", "-t", "120s", "--stop-timeout", "30"]
    shown = tmp_path / "shown"
    with shown.open("w") as output:
        load = subprocess.Popen(
            [*command, *bounds, "--csv", str(tmp_path / "load")],
            cwd=LOCUSTFILE.parents[1],
            env=os.environ | {"BENCH_ORG": server.org, "QUIRE_API_KEY": server.admin_key},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        with load:
            # It shows every two seconds who was answered so far.
            until(
                lambda: load.poll() is not None or all(name in shown.read_text() for name in NAMES),
                "not all users were answered",
            )
            load.terminate()
    assert load.returncode == 0, shown.read_text()
    with (tmp_path / "load_stats.csv").open() as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    assert rows.keys() >= NAMES
    assert all(int(row["Request Count"]) > 0 for row in rows.values())
    assert all(row["Failure Count"] == "0" for row in rows.values())
