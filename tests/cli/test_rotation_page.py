"""The scripts of the page on access that rotate a key unattended, run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.quire_process import QUIRE
from tests.support.serving import Server

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
SECTION = PAGE.split("## Rotate a key unattended")[1].split("\n## ")[0]
BY_CRON, IN_KUBERNETES = re.findall(r"^```sh\n(.+?)^```", SECTION, re.MULTILINE | re.DOTALL)
KUBECTL = """#!/bin/sh
# A stand-in for kubectl and the kubelet, which need a cluster: it exchanges the files of the mounted
# secret as the kubelet does, by one symbolic link.
set -eu
if [ "$1" = create ]; then
    [ "$*" = "create secret generic quire-key --from-file=key=/dev/stdin --dry-run=client -o yaml" ]
    exec cat
fi
[ "$*" = "apply -f -" ]
written=$(mktemp -d "$QUIRE_KEY_DIR/..2026_XXXXXX")
cat > "$written/key"
ln -s "$(basename "$written")" "$QUIRE_KEY_DIR/..data_tmp"
mv -T "$QUIRE_KEY_DIR/..data_tmp" "$QUIRE_KEY_DIR/..data"
"""


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class Job:
    """A job of one of the scripts, with a key in a file, and a service that reads that file."""

    def __init__(self, server: Server, folder: Path, script: str) -> None:
        self.server, self.script = server, script
        self.mounted, programs = folder / "mounted", folder / "bin"
        self.mounted.mkdir()
        programs.mkdir()
        self.file = self.mounted / "key"
        executable(programs / "quire", f'#!/bin/sh\nexec {shlex.join(QUIRE)} "$@"\n')
        executable(programs / "kubectl", KUBECTL)
        self.environ = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "QUIRE_URL": server.url,
            "QUIRE_KEY_FILE": str(self.file),
            "QUIRE_KEY_DIR": str(self.mounted),
            "QUIRE_SECRET": "quire-key",
        }

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", self.script],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def status(self, key: str) -> int:
        return self.server.request("GET", "/v1/whoami", key=key).status

    def key(self) -> str:
        return self.file.read_text().strip()

    def serving(self, work: Callable[[], None]) -> set[int]:
        """Run work while a service uses the key of the file; return the statuses that it got."""
        statuses: set[int] = set()
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                statuses.add(self.status(self.key()))

        service = threading.Thread(target=serve)
        service.start()
        try:
            work()
        finally:
            done.set()
            service.join()
        return statuses


def in_file(job: Job, key: str) -> None:
    job.file.write_text(key + "\n")


def as_mounted(job: Job, key: str) -> None:
    (job.mounted / "..2026_first").mkdir()
    (job.mounted / "..2026_first" / "key").write_text(key)
    (job.mounted / "..data").symlink_to("..2026_first")
    job.file.symlink_to("..data/key")


@pytest.mark.parametrize(
    ("script", "place"),
    [(BY_CRON, in_file), (IN_KUBERNETES, as_mounted)],
    ids=["cron", "kubernetes"],
)
def test_a_service_rotates_its_own_key(
    shared_server: Server, tmp_path: Path, script: str, place: Callable[[Job, str], None]
) -> None:
    job = Job(shared_server, tmp_path, script)
    keys = [shared_server.create_key(shared_server.org, "viewer")]
    place(job, keys[0])

    def twice() -> None:
        for _ in range(2):
            ran = job.run()
            assert ran.returncode == 0, ran.stderr
            keys.append(job.key())

    assert job.serving(twice) == {200}, "the service had a valid key all the time"
    assert len(set(keys)) == 3
    assert [job.status(key) for key in keys] == [200] * 3, "for as long as the overlap"
    listed = shared_server.request(
        "GET", f"/v1/orgs/{shared_server.org}/keys", key=shared_server.admin_key
    ).json()["keys"]
    rotated = {key["id"]: key["rotated_to"] for key in listed}
    ids = [key.split("_")[2] for key in keys]
    assert [rotated[key_id] for key_id in ids] == [*ids[1:], None]
    if place is in_file:
        assert job.file.stat().st_mode & 0o077 == 0
    job.environ["QUIRE_KEY_FILE"] = job.environ["QUIRE_KEY_DIR"] = "/nowhere"
    assert job.run().returncode != 0


def test_a_job_whose_new_key_was_lost_says_so_and_changes_nothing(
    shared_server: Server, tmp_path: Path
) -> None:
    job = Job(shared_server, tmp_path, BY_CRON)
    key = shared_server.create_key(shared_server.org, "viewer")
    in_file(job, key)
    path = f"/v1/orgs/{shared_server.org}/keys/{key.split('_')[2]}/rotate"
    assert shared_server.request("POST", path, key=key).status == 201
    ran = job.run()
    assert ran.returncode != 0
    assert "was rotated before" in ran.stderr
    assert job.key() == key
    assert [one.name for one in job.mounted.iterdir()] == ["key"]
