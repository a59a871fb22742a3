"""`quire witness serve` as a process of its own, to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from ledger.note import Verifier
from server.witness.home import WitnessDirectory, create
from tests.support.serving import PeerAnswer

QUIRE = (
    sys.executable,
    "-c",
    "import sys; from server.cli.main import main; main(prog_name='quire')",
)
START_S = 30.0
STOP_S = 30.0


class WitnessProcess:
    """A witness of some logs, in a directory that must not exist yet.

    ``logs`` are the lines `log VKEY` of its policy, such as `SmallLog.policy`. ``program`` is the
    command that runs `quire witness`, for tests that change it.
    """

    def __init__(
        self,
        directory: Path,
        logs: str,
        name: str = "witness.example/w1",
        program: Iterable[str] = QUIRE,
    ) -> None:
        self.home = WitnessDirectory(directory)
        self.name = name
        self.verifiers: tuple[Verifier, ...] = tuple(
            signer.verifier() for signer in create(directory, name)
        )
        self.home.logs.write_text(f"{logs}quorum none\n")
        self.url = ""
        self.program = tuple(program)
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    def policy(self, name: str = "w") -> str:
        """Policy lines for logs that use this witness: its keys, and a group `name` of any of them."""
        keys = [
            f"witness {name}-{n} {key.vkey()} {self.url}\n" for n, key in enumerate(self.verifiers)
        ]
        members = " ".join(f"{name}-{n}" for n in range(len(keys)))
        return "".join([*keys, f"group {name} any {members}\n"])

    def start(self) -> None:
        """Start it, and wait until it listens; a restart uses the same port."""
        arguments = ["witness", "serve", "--dir", str(self.home.directory)]
        environ = {name: value for name, value in os.environ.items() if name[:6] != "QUIRE_"}
        log = (self.home.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self.program, *arguments, "--port", str(self._port)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environ,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        with self._process.stdout as output:
            line = output.readline()
        assert " on http" in line, (self.home.directory / "log").read_text()
        self.url = line.rpartition(" on ")[2].strip()
        self._port = int(self.url.rpartition(":")[2])
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                self.get("/")
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise AssertionError("the witness does not answer")

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(STOP_S)

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def stop(self) -> None:
        """Kill the process if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def add(self, body: bytes, timeout: float = 30) -> PeerAnswer:
        """POST add-checkpoint. Raises OSError if there is no answer."""
        request = urllib.request.Request(f"{self.url}/add-checkpoint", body, method="POST")
        return _answer(request, timeout)

    def get(self, path: str) -> PeerAnswer:
        return _answer(urllib.request.Request(self.url + path), 30)


def _answer(request: urllib.request.Request, timeout: float) -> PeerAnswer:
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return PeerAnswer(reply.status, dict(reply.headers), reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return PeerAnswer(error.code, dict(error.headers), error.read())
