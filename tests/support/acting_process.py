"""The parts of a server that act on trails, in one process: for faults in the middle of their acts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import msgspec

from ledger.core.checkpointing import MEMORY_FILE, SignerMemory
from ledger.core.org import OrgFacts
from ledger.core.register import Register
from ledger.core.sealing.sealer import Sealer
from ledger.core.sequencer import HEADS_FILE, AcknowledgedHeads
from ledger.entry import Leaf, decode_leaf, to_datetime
from ledger.event import Event, EventFields
from ledger.intake import IntakeLimits
from ledger.sealing import row_key
from ledger.storage import database as storage
from ledger.storage import orgs, partitions, security_events
from ledger.storage.acknowledged_events import SecurityEventTable
from ledger.storage.clock import now_us
from ledger.storage.database import SIGNER_ROLE
from ledger.storage.sealed_events import UnsealedEvents
from ledger.storage.signing import SignerConnection
from server.access.administering import administering
from server.access.administration import Administration
from server.access.directory import Directory
from server.process.losses.accepting import Losses, SignedSide
from server.trails.appending import Appender
from server.trails.guarding import TrailGuard
from server.trails.own.sealing import EventSealing
from tests.support import blocks, log_keys
from tests.support.appending import IDENTITY, rows_of, superuser
from tests.support.clusters import Database, as_role
from tests.support.orgs import MASTER_KEY
from tests.support.trails import RING


class Office(NamedTuple):
    """The acting parts of one process; ``heads`` and ``memory`` are files of its machine."""

    cluster: Database
    database: storage.Database
    work: Administration
    guard: TrailGuard
    sealing: EventSealing
    appender: Appender
    losses: Losses
    heads: AcknowledgedHeads
    memory: SignerMemory

    async def new_org(self) -> OrgFacts:
        """Create a sealed org with entries about some persons."""
        made = await self.work.create_org(f"org-{token_hex(4)}", "Org", "sealed")
        org = OrgFacts(made.id, made.slug, True, made.wrapped_key)
        for subject in ("anna", "bob", "carl", "dora"):
            await self.append(org, subject)
        return org

    async def append(self, org: OrgFacts, subject: str) -> None:
        """Append an entry about a person."""
        body = msgspec.json.encode({"event_type": "met", "subject": subject, "actor": "ada"})
        event = Event(msgspec.json.decode(body, type=EventFields), body)
        await self.appender.append(org, [event])

    async def lose(self, org: OrgFacts, first: int) -> None:
        """Remove the entries from a seq on behind the server's back."""
        async with superuser(self.cluster) as connection:
            await blocks.point_head_at(connection, org.id, first - 1)
            await blocks.cut(connection, org.id, first)

    async def add_event(self, org: OrgFacts) -> None:
        """Store a security event of an org."""
        await security_events.add(self.database, org.id, "quota_used_up", "all of it")

    @property
    def events(self) -> SecurityEventTable:
        """The security events of the database."""
        return SecurityEventTable(self.database, row_key(MASTER_KEY))

    async def kinds(self, org: OrgFacts) -> list[str | None]:
        """The event types of the entries of a trail."""
        return [leaf.event_type for leaf in await self.leaves(org)]

    async def leaves(self, org: OrgFacts) -> list[Leaf]:
        """The leaves of a trail."""
        return [decode_leaf(row.leaf) for row in await rows_of(self.cluster, org.id)]

    async def recorded(self) -> Register:
        """The register as a new process folds it."""
        register = Register(self.database, lambda _: RING, row_key(MASTER_KEY))
        assert await register.open()
        return register

    async def is_frozen(self, org: OrgFacts) -> bool:
        """Whether an org is frozen: its head row and the register must agree."""
        record = await orgs.org_by_id(self.database, org.id)
        assert record is not None
        freeze = (await self.recorded()).freeze_of(org.id)
        assert (record.frozen_reason is None) == (freeze is None)
        return freeze is not None


@asynccontextmanager
async def office(cluster: Database, folder: Path) -> AsyncIterator[Office]:
    """Open an office whose machine's files are in a folder."""
    async with contextlib.AsyncExitStack() as stack:
        database = await storage.Database.open(cluster.server_url, size=3)
        stack.push_async_callback(database.close)
        await partitions.prepare(database, to_datetime(await now_us(database)))
        heads = stack.enter_context(
            contextlib.closing(AcknowledgedHeads(folder / HEADS_FILE, IDENTITY))
        )
        memory = stack.enter_context(contextlib.closing(SignerMemory(folder / MEMORY_FILE)))
        login = as_role(cluster.server_url, SIGNER_ROLE)
        signer = await stack.enter_async_context(SignerConnection.open(login))
        opening = administering(database, lambda _: RING, MASTER_KEY, heads, compares=False)
        work = await stack.enter_async_context(opening)
        sealer = Sealer(database, MASTER_KEY, work.register)
        guard = TrailGuard(database, work.sequencer, sealer, work)
        directory, waiting = Directory(database, work.register), UnsealedEvents(database)
        sealing = EventSealing(waiting, guard, directory, sealer, batch_s=60)
        appender = Appender(work.sequencer, sealer, MASTER_KEY, IntakeLimits(100, 2**20))
        signed = SignedSide(signer, log_keys.keys().public(), memory)
        losses = Losses(database, work.sequencer, sealer, work, RING, heads, signed)
        yield Office(cluster, database, work, guard, sealing, appender, losses, heads, memory)
