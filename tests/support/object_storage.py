"""A real object storage server that enforces Object Lock, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from ledger.archive.targets import TargetSettings
from tests.support.clusters import _free_port

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-s3" / "bin" / "python"
DONE = ROOT / ".venv-s3" / ".done"
START_S = 60.0
STOP_S = 20.0


class ObjectStorage:
    """A server of the S3 protocol on a port of its own."""

    access_key = "quire-tests"
    secret_key = "quire-tests-secret"
    checks_credentials = False
    writes_conditionally = True  # heeds If-None-Match

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that a client needs."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def settings(self) -> TargetSettings:
        """Settings of a target on this server, with short waits."""
        return TargetSettings(
            s3_endpoint=self.endpoint, read_timeout_s=20.0, attempts=4, attempts_wait_s=0.01
        )

    def start(self) -> None:
        """Start the server; returns when it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def await_answer(self, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
        """Wait until a GET of `path` is answered with 200."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{self.endpoint}{path}", timeout=5).close()
                return
            except (OSError, urllib.error.URLError):
                assert process.poll() is None, f"it ended:\n{log.read_text()[-4_000:]}"
                assert time.monotonic() < deadline, f"not ready:\n{log.read_text()[-4_000:]}"
                time.sleep(0.05)


class LocalStack(ObjectStorage):
    """LocalStack's S3; it takes any credentials."""

    def start(self) -> None:
        assert DONE.exists(), (
            f"{PYTHON.parent.parent} is missing or half built: run `make .venv-s3`, which "
            "installs the object storage that these tests need (LocalStack, from "
            "requirements-s3.txt, on Python 3.11, 3.12 or 3.13)"
        )
        self.directory.mkdir()
        log = self.directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [PYTHON, "-m", "localstack.runtime.main"],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.directory),
                    "TMPDIR": str(self.directory),
                    "GATEWAY_SERVER": "hypercorn",
                    "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
                    "SERVICES": "s3",
                    "DISABLE_EVENTS": "1",
                    "SKIP_SSL_CERT_DOWNLOAD": "1",
                    "DNS_ADDRESS": "0",
                },
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,
            )
        self.await_answer("/_localstack/health", self._process, log)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
