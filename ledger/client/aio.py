"""The client for asyncio; ``sync`` has the same without asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Self, TypeVar, Unpack, overload

import httpx2
import stamina

from ledger.client import models, routes, verification
from ledger.client.batching import (
    DEFAULT_BATCH_BYTES,
    DEFAULT_BATCH_EVENTS,
    DEFAULT_IN_FLIGHT,
    DEFAULT_QUEUE_BYTES,
    DEFAULT_QUEUE_EVENTS,
    Batching,
)
from ledger.client.bulk import A, BulkAppend
from ledger.client.bundles import ZIP, AsyncEvidenceBundle, PartFile
from ledger.client.errors import ClientClosedError, InvalidArgumentError, LedgerError
from ledger.client.events import Event, encode
from ledger.client.protocol import Call, Reply, check_stream, read
from ledger.client.transport import (
    BEFORE_SENDING,
    CHUNK_BYTES,
    DEFAULT_ATTEMPTS,
    DEFAULT_TIMEOUT_SECONDS,
    head_of,
    name_proxy,
    reply_of,
    request_of,
    retries,
    server_at,
    wire_error,
)
from ledger.surroundings import blaming_surroundings

T = TypeVar("T")


class AsyncLedgerClient:
    """A connection to a Quire server for one org's trail, for one event loop.

    ``url`` defaults to ``QUIRE_URL``, and then to this machine. ``org`` may be omitted for a key
    that belongs to an org: the client asks the server once. ``timeout`` is in seconds, for
    connecting and for each wait on the network; ``attempts`` is the most times that a call is
    sent. Plain http to another machine needs ``insecure_http``, or ``QUIRE_INSECURE_HTTP=true``;
    for this machine no proxy is used. The network errors of all methods are those of ``ledger.client.errors``.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        org: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        attempts: int = DEFAULT_ATTEMPTS,
        insecure_http: bool | None = None,
    ) -> None:
        self._server = server_at(url, api_key, timeout, attempts, insecure_http)
        self._org = org
        with blaming_surroundings(InvalidArgumentError):
            self._http = httpx2.AsyncClient(**self._server.options())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.url!r}, org={self._org!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; further calls raise ClientClosedError."""
        await self._http.aclose()

    # Writing

    async def append(self, event: Event, *, idempotency_key: str | None = None) -> models.Receipt:
        """Append one event and return its receipt once it is durable.

        ``event`` is a mapping, or the bytes of a JSON object, sent as they are.
        Repeating with the same ``idempotency_key`` and event returns the first
        receipt again; the default is a new random key.
        """
        encoded = encode(event)
        return await self._run(routes.append(await self._slug(), encoded, idempotency_key))

    @overload
    async def append_many(
        self,
        events: Iterable[Event],
        *,
        idempotency_key: str | None = None,
        minimal: Literal[False] = False,
    ) -> list[models.Receipt]: ...

    @overload
    async def append_many(
        self,
        events: Iterable[Event],
        *,
        idempotency_key: str | None = None,
        minimal: Literal[True],
    ) -> list[models.BatchSummary]: ...

    async def append_many(
        self,
        events: Iterable[Event],
        *,
        idempotency_key: str | None = None,
        minimal: bool = False,
    ) -> list[models.Receipt] | list[models.BatchSummary]:
        """Append events in order and return one receipt for each.

        One request has up to 10,000 events and 16 MiB, and is atomic. More events take several
        requests, each atomic by itself: if a later one fails, PartialAppendError says which
        events are durable and how to continue. ``minimal`` returns one short summary for each
        request instead of receipts.
        """
        slug = await self._slug()
        if minimal:
            summary_route = partial(routes.append_minimal, slug)
            return await self._append_all(BulkAppend(events, idempotency_key, summary_route))
        route = partial(routes.append_batch, slug)
        answers = await self._append_all(BulkAppend(events, idempotency_key, route))
        return [receipt for answer in answers for receipt in answer.entries]

    async def _append_all(self, bulk: BulkAppend[A]) -> list[A]:
        with bulk.partial_errors():
            for call in bulk.calls():
                bulk.answers.append(await self._run(call))
        return bulk.answers

    def batching(
        self,
        *,
        max_events: int = DEFAULT_BATCH_EVENTS,
        max_bytes: int = DEFAULT_BATCH_BYTES,
        queue_events: int = DEFAULT_QUEUE_EVENTS,
        queue_bytes: int = DEFAULT_QUEUE_BYTES,
        in_flight: int = DEFAULT_IN_FLIGHT,
    ) -> Batching:
        """Return a context whose concurrent ``append`` calls share requests.

        At most ``in_flight`` requests, each of ``max_events`` and ``max_bytes`` at most, are in
        progress; up to ``queue_events`` and ``queue_bytes`` wait. With ``in_flight=1``, and while
        the queue has room, entries keep the order in which ``append`` was called.
        Leaving the context waits for all calls; keep the client open until then.
        """
        return Batching(
            self._send_batch,
            max_events=max_events,
            max_bytes=max_bytes,
            queue_events=queue_events,
            queue_bytes=queue_bytes,
            in_flight=in_flight,
        )

    async def _send_batch(self, encoded: Sequence[bytes]) -> list[models.Receipt]:
        call = routes.append_batch(await self._slug(), encoded, None)
        return (await self._run(call)).entries

    # Reading

    async def entries(self, **filters: Unpack[models.EntryFilters]) -> AsyncIterator[models.Entry]:
        """Yield the trail's entries, newest first unless ``order="asc"``, page by page."""
        slug, cursor = await self._slug(), None
        while True:
            page = await self._run(routes.entries(slug, filters, cursor))
            for entry in page.entries:
                yield entry
            if page.next_cursor is None:
                return
            cursor = routes.advanced(cursor, page.next_cursor)

    async def get(self, record_id: str) -> models.Entry:
        """Return one entry. Raises NotFoundError."""
        return await self._run(routes.entry(await self._slug(), record_id))

    async def payload(self, record_id: str) -> bytes:
        """Return an entry's event, byte for byte as it was sent. Raises NotFoundError."""
        return await self._run(routes.payload(await self._slug(), record_id))

    async def head(self) -> models.Head:
        """Return the seq and hash of the trail's newest entry."""
        return await self._run(routes.head(await self._slug()))

    # Signed trees

    async def proof(
        self, record_id: str, *, size: int | None = None, anchored: bool = False
    ) -> models.Proof:
        """Return the proof that an entry is in the checkpoint of ``size``, by default the newest.

        The proof is not verified. Waits some seconds for an entry that was just appended,
        then raises NotYetSignedError.
        """
        slug = await self._slug()
        return await self._run(routes.proof(slug, record_id, size, anchored))

    async def proof_file(
        self, record_id: str, *, size: int | None = None, anchored: bool = False
    ) -> bytes:
        """Return the proof as a C2SP tlog-proof file."""
        slug = await self._slug()
        return await self._run(routes.proof_file(slug, record_id, size, anchored))

    async def checkpoints(self) -> AsyncIterator[models.Checkpoint]:
        """Yield every signed checkpoint of the trail, newest first."""
        slug, cursor = await self._slug(), None
        while True:
            page = await self._run(routes.checkpoints(slug, cursor))
            for checkpoint in page.checkpoints:
                yield checkpoint
            if page.next_cursor is None:
                return
            cursor = routes.advanced(cursor, str(page.next_cursor))

    async def log_checkpoint(self) -> bytes:
        """Return the newest checkpoint, a signed note. Raises NotFoundError before the first."""
        return await self._run(routes.log_checkpoint(await self._slug()))

    # Evidence

    async def export_evidence_bundle(
        self, **request: Unpack[models.BundleRequest]
    ) -> AsyncEvidenceBundle:
        """Return a bundle of entries with their proofs, to be saved.

        Select the entries by ``record_ids=``, by ``from_seq=`` and ``to_seq=``, or by the
        filters of ``entries``. The request is sent when the bundle is saved; it waits some
        seconds for entries that were just appended, then raises NotYetSignedError.
        """
        call = routes.bundle(await self._slug(), request)
        return AsyncEvidenceBundle(partial(self._save, call))

    # Verifying

    async def verify_entry(self, record_id: str | int) -> models.EntryVerification:
        """Have the server check one entry. Raises NotFoundError.

        With a key of the org, ``record_id`` may be the integer id of an imported QWED row.
        """
        return await self._run(routes.verify_entry(record_id))

    async def verify_audit_trail(
        self,
        from_seq: int | None = None,
        to_seq: int | None = None,
        on_progress: verification.OnProgress | None = None,
    ) -> models.TrailVerification:
        """Have the server verify the trail, or a range of it, and return the verdict.

        ``on_progress`` is called with the job about once a second. Raises
        VerificationFailedError if there is no verdict.
        """
        slug, watch = await self._slug(), verification.PollingDelay(on_progress)
        wait = watch.first_wait_seconds
        job = await self._run(routes.start_verification(slug, from_seq, to_seq, wait))
        while (pause := watch.seconds(job)) is not None:
            await asyncio.sleep(pause)
            job = await self._run(routes.verification(slug, job.id))
        return verification.verdict(job)

    # Administration: of the client's org unless ``org`` names another

    async def whoami(self) -> models.Identity:
        """Return the identity of this API key."""
        return await self._run(routes.whoami())

    async def create_org(
        self, slug: str, name: str | None = None, privacy: models.Privacy = "sealed"
    ) -> models.Org:
        """Create an org; its name defaults to its slug. Raises ConflictError."""
        return await self._run(routes.create_org(slug, name or slug, privacy))

    async def orgs(self) -> AsyncIterator[models.Org]:
        """Yield all orgs (platform key only)."""
        cursor = None
        while True:
            page = await self._run(routes.orgs(cursor))
            for org in page.orgs:
                yield org
            if page.next_cursor is None:
                return
            cursor = routes.advanced(cursor, page.next_cursor)

    async def org(self, org: str | None = None) -> models.Org:
        """Return an org. Raises NotFoundError."""
        return await self._run(routes.org(await self._slug(org)))

    async def security_events(
        self, *, org: str | None = None, **wanted: Unpack[models.EventFilters]
    ) -> AsyncIterator[models.SecurityEventInfo]:
        """Yield the security events of an org that match all filters, newest first."""
        slug, cursor = await self._slug(org), None
        while True:
            page = await self._run(routes.security_events(slug, cursor, wanted))
            for event in page.events:
                yield event
            if page.next_cursor is None:
                return
            cursor = routes.advanced(cursor, str(page.next_cursor))

    async def threats(self, *, org: str | None = None) -> models.OrgThreats:
        """Get an org's threat score with its parts, its level, and who contributes."""
        return await self._run(routes.threats(await self._slug(org)))

    async def acknowledge_event(
        self, event_id: int, reason: str, *, org: str | None = None
    ) -> models.SecurityEventInfo:
        """State that a security event was dealt with; raises ConflictError if it was before."""
        return await self._run(routes.acknowledge_event(await self._slug(org), event_id, reason))

    async def record_review(
        self, period_start: str, period_end: str, notes: str = "", *, org: str | None = None
    ) -> models.Review:
        """State that you reviewed the trail of some days (such as "2026-01-31", in UTC)."""
        slug = await self._slug(org)
        return await self._run(routes.record_review(slug, period_start, period_end, notes))

    async def update_org(
        self,
        *,
        name: str | None = None,
        log_public: bool | None = None,
        entries_a_day: int | None = None,
        bytes_a_day: int | None = None,
        max_key_age_days: int | None = None,
        org: str | None = None,
    ) -> models.Org:
        """Rename an org (its slug stays), make its log public or private, or set its limits.

        A quota is set with a platform key: entries and bytes of bodies in a day (UTC); 0: none.
        API keys older than ``max_key_age_days`` should be rotated, 1 to 365; 0: any age will do.
        """
        slug = await self._slug(org)
        return await self._run(
            routes.update_org(slug, name, log_public, entries_a_day, bytes_a_day, max_key_age_days)
        )

    async def limits(self, *, org: str | None = None) -> models.OrgLimits:
        """Return the rate limits of an org: its own, else those of the server."""
        return await self._run(routes.limits(await self._slug(org)))

    async def set_limits(
        self, limits: models.OrgLimits, *, org: str | None = None
    ) -> models.OrgLimits:
        """Set all rate limits of an org; a key of the org can't exceed those of the platform."""
        return await self._run(routes.set_limits(await self._slug(org), limits))

    async def thaw(self, reason: str, *, org: str | None = None) -> models.Org:
        """Let a frozen org take entries again; the reason becomes an entry."""
        return await self._run(routes.thaw(await self._slug(org), reason))

    async def create_key(
        self,
        name: str,
        role: models.Role,
        *,
        expires_in_days: int | None = 90,
        allowed_cidrs: Sequence[str] = (),
        org: str | None = None,
    ) -> models.CreatedApiKey:
        """Create an API key; the server returns ``.key`` only this once.

        ``expires_in_days`` None is never, which takes a platform key. ``allowed_cidrs`` are the
        addresses and ranges from which the key may be used; none: any address.
        """
        slug = await self._slug(org)
        return await self._run(routes.create_key(slug, name, role, expires_in_days, allowed_cidrs))

    async def keys(self, *, org: str | None = None) -> list[models.ApiKey]:
        """Return an org's API keys, oldest first, revoked and expired ones too."""
        slug, found = await self._slug(org), list[models.ApiKey]()
        cursor = None
        while True:
            page = await self._run(routes.keys(slug, cursor))
            found += page.keys
            if page.next_cursor is None:
                return found
            cursor = routes.advanced(cursor, page.next_cursor)

    async def update_key(
        self,
        key_id: str,
        *,
        name: str | None = None,
        allowed_cidrs: Sequence[str] | None = None,
        org: str | None = None,
    ) -> models.ApiKey:
        """Change the name of an API key, or the addresses from which it may be used."""
        return await self._run(
            routes.update_key(await self._slug(org), key_id, name, allowed_cidrs)
        )

    async def rotate_key(
        self, key_id: str | None = None, *, overlap_hours: int = 24, org: str | None = None
    ) -> models.RotatedApiKey:
        """Replace an API key, by default the client's own, by a new one.

        The server returns ``.key`` only this once; this client goes on with the old key, which is
        valid for ``overlap_hours`` (0 to 720) more, or until it ends anyway. Raises ConflictError for
        a key that was rotated before or has ended.
        """
        slug = await self._slug(org)
        own = key_id or (await self.whoami()).key_id
        return await self._run(routes.rotate_key(slug, own, overlap_hours))

    async def revoke_key(self, key_id: str, *, org: str | None = None) -> None:
        """Revoke an API key. Raises NotFoundError."""
        await self._run(routes.revoke_key(await self._slug(org), key_id))

    async def erase_subject(self, subject: str, *, org: str | None = None) -> models.Erasure:
        """Make a person's data unreadable, forever.

        Raises NotFoundError if there is no such subject, ConflictError in an org
        that does not seal.
        """
        return await self._run(routes.erase_subject(await self._slug(org), subject))

    async def archive(self, *, org: str | None = None, wait_seconds: int = 30) -> models.Archive:
        """Archive a trail up to its newest checkpoint; return when it is done or the wait ends.

        Raises ConflictError where the server has no archive.
        """
        return await self._run(routes.archive(await self._slug(org), wait_seconds))

    async def archive_status(self, *, org: str | None = None) -> models.Archive:
        """Return how far a trail is archived. Raises ConflictError as :meth:`archive` does."""
        return await self._run(routes.archive_status(await self._slug(org)))

    # Sending

    async def _slug(self, org: str | None = None) -> str:
        if org is not None:
            return org
        if self._org is None:
            self._org = routes.own_org(await self._run(routes.whoami()))
        return self._org

    async def _run(self, call: Call[T]) -> T:
        if self._http.is_closed:
            raise ClientClosedError("this client is closed")
        try:
            async for attempt in stamina.retry_context(**retries(call, self._server)):
                with attempt:
                    return read(call, await self._exchange(call))
        except LedgerError as error:
            error.idempotency_key = call.idempotency_key
            name_proxy(error, self._server)
            raise
        raise AssertionError("retry_context ends with a result or an error")

    async def _save(self, call: Call[None], path: Path) -> None:
        if self._http.is_closed:
            raise ClientClosedError("this client is closed")
        async for attempt in stamina.retry_context(**retries(call, self._server)):
            with attempt, PartFile(path) as part:
                await self._receive(call, part)
                await asyncio.to_thread(part.finish)

    async def _receive(self, call: Call[None], part: PartFile) -> None:
        try:
            response = await self._http.send(request_of(self._http, call), stream=True)
            async with contextlib.aclosing(response):
                if response.status_code >= 300:
                    await response.aread()
                check_stream(head_of(response), ZIP)
                async for chunk in response.aiter_bytes(CHUNK_BYTES):
                    await asyncio.to_thread(part.write, chunk)
        except (httpx2.RequestError, *BEFORE_SENDING) as error:
            raise wire_error(error, self._server) from error

    async def _exchange(self, call: Call[T]) -> Reply:
        try:
            return reply_of(await self._http.send(request_of(self._http, call)))
        except (httpx2.RequestError, *BEFORE_SENDING) as error:
            raise wire_error(error, self._server) from error
