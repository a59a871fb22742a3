"""A log that a server wrote, signed and serves over HTTP, for independent clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final

from ledger.log_keys import LogKeyHistory
from ledger.tiles import EntryTile, read_bundle, tile_in
from server.keys.first_start import load_secrets
from tests.support.clusters import blocking
from tests.support.serving import Server
from tests.support.signing import checkpointer, log_keys

GROWTH: Final = (1, 1, 254, 1, 43, 700)
"""Entries between checkpoints: across the ends of tiles, and up to two levels of them."""
LONG_GROWTH: Final = (*GROWTH, 64_600)
"""Up to three levels of tiles."""
_BATCH: Final = 1_000


@dataclass
class ServedLog:
    """An org's public log with a checkpoint of each size in ``sizes``, each of them anchored."""

    server: Server
    org: str
    key: str
    growth: tuple[int, ...]
    history: LogKeyHistory = field(default_factory=lambda: log_keys().public())
    record_ids: list[str] = field(default_factory=list)

    @property
    def sizes(self) -> list[int]:
        """The sizes of the log that have a checkpoint."""
        return list(accumulate(self.growth))

    @property
    def url(self) -> str:
        """The URL of the org's log."""
        return f"{self.server.url}/v1/orgs/{self.org}/log"

    @property
    def anchors_url(self) -> str:
        """The URL of the anchor log."""
        return f"{self.server.url}/v1/log"

    @property
    def vkey(self) -> str:
        """The verifier key of the org's log, in the text form of signed notes."""
        (verifier,) = self.history.org_verifiers(self.org)
        return verifier.vkey()

    @property
    def anchors_vkey(self) -> str:
        """The Ed25519 verifier key of the anchor log."""
        return self.history.anchor_verifiers()[0].vkey()

    def read(self, path: str) -> bytes:
        """Read a resource of the org's log, without an API key."""
        answer = self.server.request("GET", f"/v1/orgs/{self.org}/log/{path}")
        assert answer.status == 200, (path, answer.body)
        return answer.body

    def leaf(self, index: int) -> bytes:
        """The bytes of an entry, read from its entry bundle."""
        whole = EntryTile(index // 256, tile_in(self.sizes[-1], 0, index // 256).width)
        return read_bundle(self.read(whole.path()), whole.width)[index % 256]

    def inclusion(self, index: int, size: int) -> dict[str, Any]:
        """The body of an inclusion proof."""
        path = f"entries/{self.record_ids[index]}/proof?size={size}"
        return self._json(path)

    def consistency(self, older: int, newer: int) -> dict[str, Any]:
        """The body of a consistency proof."""
        return self._json(f"consistency?from={older}&to={newer}")

    def inclusions(self) -> list[dict[str, Any]]:
        """Proofs of entries at the edges of tiles and in the middle, in every checkpoint."""
        return [
            self.inclusion(index, size)
            for size in self.sizes
            for index in sorted({0, size // 2, size - 1} | {255, 256, 65_535, 65_536})
            if index < size
        ]

    def consistencies(self) -> list[dict[str, Any]]:
        """Proofs from each checkpoint to the next, and to the newest."""
        *smaller, newest = self.sizes
        pairs = sorted({*pairwise(self.sizes), *((size, newest) for size in smaller)})
        return [self.consistency(older, newer) for older, newer in pairs]

    def _json(self, path: str) -> dict[str, Any]:
        answer = self.server.request("GET", f"/v1/orgs/{self.org}/{path}", key=self.key)
        assert answer.status == 200, (path, answer.body)
        body: dict[str, Any] = answer.json()
        return body

    def grow(self, directory: Path) -> None:
        """Append, sign and anchor, once for each number of ``growth``."""
        blocking(self._grow(directory))

    async def _grow(self, directory: Path) -> None:
        settings, url = self.server.settings, self.server.database.server_url
        keyring = load_secrets(settings, database_is_new=False).keyring
        async with checkpointer(url, directory / "signed.sqlite", keyring=keyring) as signer:
            for more in self.growth:
                self._append(more)
                while (await signer.round()).behind:
                    pass
                assert await signer.anchor()

    def _append(self, count: int) -> None:
        for start in range(0, count, _BATCH):
            numbers = range(len(self.record_ids), len(self.record_ids) + min(_BATCH, count - start))
            events = [{"event_type": "interop", "number": number} for number in numbers]
            path = f"/v1/orgs/{self.org}/entries"
            answer = self.server.request("POST", path, events, key=self.key)
            assert answer.status == 201, answer.body
            self.record_ids += [entry["record_id"] for entry in answer.json()["entries"]]


def served_log(server: Server, directory: Path, growth: tuple[int, ...] = GROWTH) -> ServedLog:
    """Write, sign and publish a log."""
    log = ServedLog(server, *server.create_org("plain"), growth)
    log.grow(directory)
    made = server.request("PATCH", f"/v1/orgs/{log.org}", {"log_public": True}, key=log.key)
    assert made.status == 200, made.body
    return log
