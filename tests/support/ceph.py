"""Ceph with its object gateway: one monitor, one storage daemon in memory, one gateway.

`make test-ceph` runs the tests of object storage against it. Unlike LocalStack it checks
credentials as Amazon S3 does, and it is a server that operators really lock archives in.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

from tests.support.clusters import _free_port
from tests.support.object_storage import STOP_S, ObjectStorage

PROGRAMS = (
    "ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin",
)  # fmt: skip
STEP_S = 120.0
CONFIG = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_port}/0]
keyring = {directory}/admin.keyring
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
osd_objectstore = memstore
memstore_device_bytes = 4294967296
rgw_run_sync_thread = false
run_dir = {directory}
admin_socket = {directory}/$name.asok
log_file = {directory}/$name.log
[mon.a]
mon_data = {directory}/mon
[osd.0]
osd_data = {directory}/osd
keyring = {directory}/osd.0.keyring
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_data = {directory}/rgw
keyring = {directory}/client.rgw.keyring
"""


class Ceph(ObjectStorage):
    """A Ceph cluster with all its files in one directory."""

    checks_credentials = True
    writes_conditionally = False  # Ceph 16, Debian 12's

    def start(self) -> None:
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        assert not missing, (
            f"{', '.join(missing)} missing: apt-get install --no-install-recommends "
            "radosgw ceph-mon ceph-osd"
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        for name in ("mon", "osd", "rgw"):
            (self.directory / name).mkdir(parents=True)
        self._config = self.directory / "ceph.conf"
        fsid, mon_port = str(uuid4()), _free_port()
        self._config.write_text(
            CONFIG.format(fsid=fsid, mon_port=mon_port, port=self.port, directory=self.directory)
        )
        self._start_monitor(fsid, mon_port)
        self._start_osd()
        self._run(
            "radosgw-admin", "user", "create", "--uid=quire", "--display-name=quire",
            f"--access-key={self.access_key}", f"--secret={self.secret_key}",
        )  # fmt: skip
        self._give_key("client.rgw", "allow rwx")
        gateway = self._spawn("radosgw", "-f", "-n", "client.rgw")
        self.await_answer("/", gateway, self.directory / "radosgw.out")

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start_monitor(self, fsid: str, mon_port: int) -> None:
        monmap, keys = str(self.directory / "monmap"), str(self.directory / "mon.keyring")
        admin = str(self.directory / "admin.keyring")
        everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
        new = ("--create-keyring", "--gen-key")
        self._run("ceph-authtool", keys, *new, "-n", "mon.", *everything)
        self._run("ceph-authtool", admin, *new, "-n", "client.admin", *everything)
        self._run("ceph-authtool", keys, "--import-keyring", admin)
        address = f"[v2:127.0.0.1:{mon_port}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keys)
        self._spawn("ceph-mon", "-f", "-i", "a")

    def _start_osd(self) -> None:
        uuid = str(uuid4())
        self._run("ceph", "osd", "new", uuid)
        self._give_key("osd.0", "allow *")
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", uuid)
        self._spawn("ceph-osd", "-f", "-i", "0")

    def _give_key(self, name: str, storage: str) -> None:
        path = str(self.directory / f"{name}.keyring")
        self._run(
            "ceph", "auth", "get-or-create", name, "mon", "allow *", "osd", storage, "-o", path
        )

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [program, "-c", self._config, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=STEP_S,
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stderr}"

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        output: Path = self.directory / f"{program}.out"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [program, "-c", self._config, *arguments],
                stdout=stream,
                stderr=stream,
                cwd=self.directory,
                start_new_session=True,
            )
        self._processes.append(process)
        return process
