"""`quire serve` of one side, with its own embedded database and one worker, and its public API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.load import Target
from bench.pairs.checkout import Checkout
from bench.pairs.cpu import Cpu
from bench.stage import StageFailed, free_port, tail

START_S: Final = 120.0
SETTLE_S: Final = 300.0
STOP_S: Final = 60.0
POLL_S: Final = 0.05
REST_S: Final = 1.0
REST_SHARE: Final = 0.1
"""A server rests if it uses at most this share of a processor for so long."""


class Side:
    """One side of all pairs: a checkout, and a data directory that all its sessions use."""

    def __init__(self, checkout: Checkout, directory: Path, *, guarded: bool = False) -> None:
        self.checkout = checkout
        self.guarded = guarded
        """Whether keys are bound to addresses, and limited, where a row compares that with keys that are not."""
        self.data_directory = directory
        self.targets: dict[str, list[Target]] = {}
        """The orgs of each row, created in its first session."""

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Start the server; stop it at the end of the block."""
        self.data_directory.mkdir(parents=True, exist_ok=True)
        log = self.data_directory.with_suffix(".log")
        port = free_port()
        environ = {name: value for name, value in os.environ.items() if "QUIRE" not in name}
        environ |= {
            "QUIRE_DATA_DIR": str(self.data_directory),
            "QUIRE_PORT": str(port),
            "QUIRE_LOG_LEVEL": "warning",
            "QUIRE_ARCHIVE_URL": "off",
        }
        environ.pop("PYTHONPATH", None)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(self.checkout.quire), "serve"],
                cwd=self.checkout.directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            session = Session(self, process.pid, port)
            session.await_ready(process)
            yield session
        except Exception as error:
            error.add_note(f"{self.checkout.name}; its log ends:\n{tail(log)}")
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)


class Session:
    """One running server of a side."""

    def __init__(self, side: Side, pid: int, port: int) -> None:
        self.side = side
        self.port = port
        self._pid = pid

    def cpu(self) -> Cpu:
        """Return the CPU seconds that the server has used so far."""
        return Cpu.read(self._pid, self.side.data_directory)

    def await_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the server accepts appends. Raises StageFailed."""
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                self._open("GET", "/readyz", b"", "")
            except OSError:
                time.sleep(POLL_S)
            else:
                return
        raise StageFailed("a server did not start")

    def new_org(self, slug: str, privacy: str, addresses: Sequence[str] = ()) -> Target:
        """Create an org and a key that may append to it, from these addresses; return its entries."""
        platform = (self.side.data_directory / "platform.key").read_text().strip()
        self._json("POST", "/v1/orgs", {"slug": slug, "name": slug, "privacy": privacy}, platform)
        asked: dict[str, Any] = {"name": "bench", "role": "member"}
        if addresses:  # earlier commits know no such member
            asked["allowed_cidrs"] = list(addresses)
        key = self._json("POST", f"/v1/orgs/{slug}/keys", asked, platform)
        return Target(f"/v1/orgs/{slug}/entries", key["key"])

    def limit(self, slug: str, per_minute: int) -> None:
        """Let each key of an org, and all of them, send so many requests that append."""
        platform = (self.side.data_directory / "platform.key").read_text().strip()
        rates = {"append_per_minute": per_minute}
        self._json("PUT", f"/v1/orgs/{slug}/limits", {"key": rates, "org": rates}, platform)

    def verify(self, org: Target) -> int:
        """Verify a whole trail; return the number of verified entries. Raises StageFailed."""
        base = org.path.removesuffix("/entries")
        job = self._json("POST", f"{base}/verifications?wait=30", {}, org.key)
        deadline = time.monotonic() + SETTLE_S
        while job["state"] not in {"done", "failed"} and time.monotonic() < deadline:
            time.sleep(POLL_S)
            job = self._json("GET", f"{base}/verifications/{job['id']}", None, org.key)
        result = job.get("result") or {}
        if not result.get("valid"):
            raise StageFailed(f"the trail did not verify: {job}")
        return self.size(org)

    def size(self, org: Target) -> int:
        """Return the number of the trail's entries."""
        base = org.path.removesuffix("/entries")
        return int(self._json("GET", f"{base}/head", None, org.key)["seq"]) + 1

    def settle(self, orgs: list[Target]) -> None:
        """Wait until the newest entries of these orgs are signed. Raises StageFailed."""
        deadline = time.monotonic() + SETTLE_S
        for org in orgs:
            size = self.size(org)
            while self._signed(org) < size:
                if time.monotonic() > deadline:
                    raise StageFailed("the signer does not follow the trails")
                time.sleep(POLL_S)

    def rest(self) -> None:
        """Wait until all processes have done the work of their start, which no event causes."""
        deadline = time.monotonic() + SETTLE_S
        used = self.cpu().total
        while time.monotonic() < deadline:
            time.sleep(REST_S)
            before, used = used, self.cpu().total
            if used - before <= REST_SHARE * REST_S:
                return
        raise StageFailed("a server without work does not come to rest")

    def _signed(self, org: Target) -> int:
        path = f"{org.path.removesuffix('/entries')}/log/checkpoint"
        try:
            note = self._open("GET", path, b"", org.key)
        except urllib.error.HTTPError:  # no checkpoint yet
            return 0
        return int(note.split(b"\n")[1])

    def _json(self, method: str, path: str, body: dict[str, Any] | None, key: str) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        return json.loads(self._open(method, path, data, key))

    def _open(self, method: str, path: str, body: bytes, key: str) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body or None, method=method
        )
        if key:
            request.add_header("x-api-key", key)
        if body:
            request.add_header("Content-Type", "application/json")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=60
        ) as answer:
            content: bytes = answer.read()
            return content
