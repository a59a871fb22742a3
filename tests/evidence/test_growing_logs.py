"""A log below a URL that grows while `quire-verify --log` reads it is never refuted for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.evidence import logs
from ledger.evidence.logs import source, verify_log_at
from ledger.evidence.verdict import Judgement
from server.keys.first_start import load_secrets
from tests.support.clusters import blocking
from tests.support.serving import Server
from tests.support.signing import checkpointer, log_keys

SIZES = (3, 255, 600)
"""A lone partial tile; one entry before a full tile; two full tiles and a partial one."""
GROWTH = 300
"""So many entries always complete the partial tile at the right edge."""


class GrowingLog:
    """A public log of a running server; `grow` appends to it and signs a checkpoint."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._memory = directory / "signed.sqlite"
        self._org, self._key = server.create_org("plain")
        self._keyring = load_secrets(server.settings, database_is_new=False).keyring
        made = server.request("PATCH", f"/v1/orgs/{self._org}", {"log_public": True}, key=self._key)
        assert made.status == 200, made.body
        self.url = f"{server.url}/v1/orgs/{self._org}/log"
        (verifier,) = log_keys().public().org_verifiers(self._org)
        self.vkey = verifier.vkey()

    def grow(self, count: int = GROWTH) -> None:
        """Append so many entries and publish the checkpoint of the longer trail."""
        events = [{"event_type": "test", "number": number} for number in range(count)]
        path = f"/v1/orgs/{self._org}/entries"
        answer = self._server.request("POST", path, events, key=self._key)
        assert answer.status == 201, answer.body
        blocking(self._sign())

    async def _sign(self) -> None:
        url = self._server.database.server_url
        async with checkpointer(url, self._memory, keyring=self._keyring) as signer:
            while (await signer.round()).behind:
                pass


class GrowingSource:
    """The files below a URL, read one after another; calls ``grow`` before read number ``at``."""

    def __init__(self, web: source.Source, grow: Callable[[], None], at: int | None) -> None:
        self._web = web
        self._grow = grow
        self._at = at
        self.reads: list[str] = []

    def read(self, path: str, limit: int = source.FILE_BYTES_MAX) -> bytes | None:
        if len(self.reads) == self._at:
            self._grow()
        self.reads.append(path)
        return self._web.read(path, limit)

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes | None]:
        return {path: self.read(path) for path in paths}

    def paths(self) -> Iterator[str] | None:
        return self._web.paths()


class Verifier:
    """Verifies a log that grows before one of the reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, log: GrowingLog) -> None:
        self._monkeypatch = monkeypatch
        self._log = log

    def verify(self, at: int | None) -> tuple[Judgement, list[str]]:
        """The verdict, and the paths in the order in which they were read."""
        sources: list[GrowingSource] = []

        @contextmanager
        def opened(where: str) -> Iterator[source.Source]:
            with source.open_source(where) as web:
                sources.append(GrowingSource(web, self._log.grow, at))
                yield sources[-1]

        self._monkeypatch.setattr(logs, "open_source", opened)
        judgement = verify_log_at(self._log.url, vkeys=[self._log.vkey])
        return judgement, sources[0].reads


@pytest.mark.parametrize("size", SIZES)
def test_growth_between_any_two_reads_refutes_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    log = GrowingLog(server, tmp_path)
    log.grow(size)
    verifier = Verifier(monkeypatch, log)
    before, reads = verifier.verify(None)
    assert (before.outcome, before.about["entries"]) == ("verified", size), before
    for at in range(len(reads)):
        judgement, paths = verifier.verify(at)
        assert judgement.outcome == "verified", (at, paths, judgement)
