"""The signer of a server's trees, run by calls of a test instead of by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.core.checkpointing import MEMORY_FILE
from ledger.storage.database import SIGNER_ROLE, Database
from ledger.storage.log_keys import publish_history
from tests.support.clusters import blocking
from tests.support.serving import Server
from tests.support.signing import checkpointer, log_keys

KEYS: Final = log_keys()


@dataclass(frozen=True)
class SignedTrees:
    """Signs the trees in one server's database."""

    server: Server

    def sign(self) -> int:
        """Sign a checkpoint of every trail that has grown; returns how many."""
        return blocking(self._sign())

    def anchor(self) -> int | None:
        """Sign an anchor over all checkpoints since the last; returns its size."""
        return blocking(self._anchor())

    def execute(self, statement: str, *arguments: object) -> None:
        """Run one statement as the signer's role."""
        blocking(self._execute(statement, *arguments))

    async def _sign(self) -> int:
        services = self.server.services
        assert services is not None
        await self._publish()
        async with checkpointer(
            self.server.database.server_url,
            self.server.settings.data_dir / MEMORY_FILE,
            KEYS,
            keyring=services.keyring(True),
        ) as signer:
            report = await signer.round()
        assert not report.stopped
        assert not report.behind
        return report.checkpoints

    async def _anchor(self) -> int | None:
        await self._publish()
        memory = self.server.settings.data_dir / MEMORY_FILE
        async with checkpointer(self.server.database.server_url, memory, KEYS) as signer:
            return await signer.anchor()

    async def _publish(self) -> None:
        """Publish the key history, as the leading signer does before it signs."""
        url = self.server.database.signer_url
        database = await Database.open(url, size=1, role=SIGNER_ROLE)
        try:
            await publish_history(database, KEYS.public())
        finally:
            await database.close()

    async def _execute(self, statement: str, *arguments: object) -> None:
        url = self.server.database.signer_url
        database = await Database.open(url, size=1, role=SIGNER_ROLE)
        try:
            await database.execute(statement, *arguments)
        finally:
            await database.close()
