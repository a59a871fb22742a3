"""The synchronous client; ``aio`` has the same for asyncio."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Self, TypeVar, Unpack, overload

import httpx2
import stamina

from ledger.client import models, routes, verification
from ledger.client.bulk import A, BulkAppend
from ledger.client.bundles import ZIP, EvidenceBundle, PartFile
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


class LedgerClient:
    """A connection to a Quire server for one org's trail, safe to share between threads.

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
            self._http = httpx2.Client(**self._server.options())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.url!r}, org={self._org!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; further calls raise ClientClosedError."""
        self._http.close()

    # Writing

    def append(self, event: Event, *, idempotency_key: str | None = None) -> models.Receipt:
        """Append one event and return its receipt once it is durable.

        ``event`` is a mapping, or the bytes of a JSON object, sent as they are.
        Repeating with the same ``idempotency_key`` and event returns the first
        receipt again; the default is a new random key.
        """
        encoded = encode(event)
        return self._run(routes.append(self._slug(), encoded, idempotency_key))

    @overload
    def append_many(
        self,
        events: Iterable[Event],
        *,
        idempotency_key: str | None = None,
        minimal: Literal[False] = False,
    ) -> list[models.Receipt]: ...

    @overload
    def append_many(
        self,
        events: Iterable[Event],
        *,
        idempotency_key: str | None = None,
        minimal: Literal[True],
    ) -> list[models.BatchSummary]: ...

    def append_many(
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
        slug = self._slug()
        if minimal:
            summary_route = partial(routes.append_minimal, slug)
            return self._append_all(BulkAppend(events, idempotency_key, summary_route))
        route = partial(routes.append_batch, slug)
        answers = self._append_all(BulkAppend(events, idempotency_key, route))
        return [receipt for answer in answers for receipt in answer.entries]

    def _append_all(self, bulk: BulkAppend[A]) -> list[A]:
        with bulk.partial_errors():
            for call in bulk.calls():
                bulk.answers.append(self._run(call))
        return bulk.answers

    # Reading

    def entries(self, **filters: Unpack[models.EntryFilters]) -> Iterator[models.Entry]:
        """Yield the trail's entries, newest first unless ``order="asc"``, page by page."""
        slug, cursor = self._slug(), None
        while True:
            page = self._run(routes.entries(slug, filters, cursor))
            yield from page.entries
            if page.next_cursor is None:
                return
            cursor = routes.advanced(cursor, page.next_cursor)

    def get(self, record_id: str) -> models.Entry:
        """Return one entry. Raises NotFoundError."""
        return self._run(routes.entry(self._slug(), record_id))

    def payload(self, record_id: str) -> bytes:
        """Return an entry's event, byte for byte as it was sent. Raises NotFoundError."""
        return self._run(routes.payload(self._slug(), record_id))

    def head(self) -> models.Head:
        """Return the seq and hash of the trail's newest entry."""
        return self._run(routes.head(self._slug()))

    # Signed trees

    def proof(
        self, record_id: str, *, size: int | None = None, anchored: bool = False
    ) -> models.Proof:
        """Return the proof that an entry is in the checkpoint of ``size``, by default the newest.

        The proof is not verified. Waits some seconds for an entry that was just appended,
        then raises NotYetSignedError.
        """
        slug = self._slug()
        return self._run(routes.proof(slug, record_id, size, anchored))

    def proof_file(
        self, record_id: str, *, size: int | None = None, anchored: bool = False
    ) -> bytes:
        """Return the proof as a C2SP tlog-proof file."""
        slug = self._slug()
        return self._run(routes.proof_file(slug, record_id, size, anchored))

    def checkpoints(self) -> Iterator[models.Checkpoint]:
        """Yield every signed checkpoint of the trail, newest first."""
        slug, cursor = self._slug(), None
        while True:
            page = self._run(routes.checkpoints(slug, cursor))
            yield from page.checkpoints
            if page.next_cursor is None:
                return
            cursor = routes.advanced(cursor, str(page.next_cursor))

    def log_checkpoint(self) -> bytes:
        """Return the newest checkpoint, a signed note. Raises NotFoundError before the first."""
        return self._run(routes.log_checkpoint(self._slug()))

    # Evidence

    def export_evidence_bundle(self, **request: Unpack[models.BundleRequest]) -> EvidenceBundle:
        """Return a bundle of entries with their proofs, to be saved.

        Select the entries by ``record_ids=``, by ``from_seq=`` and ``to_seq=``, or by the
        filters of ``entries``. The request is sent when the bundle is saved; it waits some
        seconds for entries that were just appended, then raises NotYetSignedError.
        """
        call = routes.bundle(self._slug(), request)
        return EvidenceBundle(partial(self._save, call))

    # Verifying

    def verify_entry(self, record_id: str | int) -> models.EntryVerification:
        """Have the server check one entry. Raises NotFoundError.

        With a key of the org, ``record_id`` may be the integer id of an imported QWED row.
        """
        return self._run(routes.verify_entry(record_id))

    def verify_audit_trail(
        self,
        from_seq: int | None = None,
        to_seq: int | None = None,
        on_progress: verification.OnProgress | None = None,
    ) -> models.TrailVerification:
        """Have the server verify the trail, or a range of it, and return the verdict.

        ``on_progress`` is called with the job about once a second. Raises
        VerificationFailedError if there is no verdict.
        """
        slug, watch = self._slug(), verification.PollingDelay(on_progress)
        wait = watch.first_wait_seconds
        job = self._run(routes.start_verification(slug, from_seq, to_seq, wait))
        while (pause := watch.seconds(job)) is not None:
            time.sleep(pause)
            job = self._run(routes.verification(slug, job.id))
        return verification.verdict(job)

    # Administration: of the client's org unless ``org`` names another

    def whoami(self) -> models.Identity:
        """Return the identity of this API key."""
        return self._run(routes.whoami())

    def create_org(
        self, slug: str, name: str | None = None, privacy: models.Privacy = "sealed"
    ) -> models.Org:
        """Create an org; its name defaults to its slug. Raises ConflictError."""
        return self._run(routes.create_org(slug, name or slug, privacy))

    def orgs(self) -> Iterator[models.Org]:
        """Yield all orgs (platform key only)."""
        cursor = None
        while True:
            page = self._run(routes.orgs(cursor))
            yield from page.orgs
            if page.next_cursor is None:
                return
            cursor = routes.advanced(cursor, page.next_cursor)

    def org(self, org: str | None = None) -> models.Org:
        """Return an org. Raises NotFoundError."""
        return self._run(routes.org(self._slug(org)))

    def security_events(
        self, *, org: str | None = None, **wanted: Unpack[models.EventFilters]
    ) -> Iterator[models.SecurityEventInfo]:
        """Yield the security events of an org that match all filters, newest first."""
        slug, cursor = self._slug(org), None
        while True:
            page = self._run(routes.security_events(slug, cursor, wanted))
            yield from page.events
            if page.next_cursor is None:
                return
            cursor = routes.advanced(cursor, str(page.next_cursor))

    def threats(self, *, org: str | None = None) -> models.OrgThreats:
        """Get an org's threat score with its parts, its level, and who contributes."""
        return self._run(routes.threats(self._slug(org)))

    def acknowledge_event(
        self, event_id: int, reason: str, *, org: str | None = None
    ) -> models.SecurityEventInfo:
        """State that a security event was dealt with; raises ConflictError if it was before."""
        return self._run(routes.acknowledge_event(self._slug(org), event_id, reason))

    def record_review(
        self, period_start: str, period_end: str, notes: str = "", *, org: str | None = None
    ) -> models.Review:
        """State that you reviewed the trail of some days (such as "2026-01-31", in UTC)."""
        slug = self._slug(org)
        return self._run(routes.record_review(slug, period_start, period_end, notes))

    def update_org(
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
        slug = self._slug(org)
        return self._run(
            routes.update_org(slug, name, log_public, entries_a_day, bytes_a_day, max_key_age_days)
        )

    def limits(self, *, org: str | None = None) -> models.OrgLimits:
        """Return the rate limits of an org: its own, else those of the server."""
        return self._run(routes.limits(self._slug(org)))

    def set_limits(self, limits: models.OrgLimits, *, org: str | None = None) -> models.OrgLimits:
        """Set all rate limits of an org; a key of the org can't exceed those of the platform."""
        return self._run(routes.set_limits(self._slug(org), limits))

    def thaw(self, reason: str, *, org: str | None = None) -> models.Org:
        """Let a frozen org take entries again; the reason becomes an entry."""
        return self._run(routes.thaw(self._slug(org), reason))

    def create_key(
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
        slug = self._slug(org)
        return self._run(routes.create_key(slug, name, role, expires_in_days, allowed_cidrs))

    def keys(self, *, org: str | None = None) -> list[models.ApiKey]:
        """Return an org's API keys, oldest first, revoked and expired ones too."""
        slug, found = self._slug(org), list[models.ApiKey]()
        cursor = None
        while True:
            page = self._run(routes.keys(slug, cursor))
            found += page.keys
            if page.next_cursor is None:
                return found
            cursor = routes.advanced(cursor, page.next_cursor)

    def update_key(
        self,
        key_id: str,
        *,
        name: str | None = None,
        allowed_cidrs: Sequence[str] | None = None,
        org: str | None = None,
    ) -> models.ApiKey:
        """Change the name of an API key, or the addresses from which it may be used."""
        return self._run(routes.update_key(self._slug(org), key_id, name, allowed_cidrs))

    def rotate_key(
        self, key_id: str | None = None, *, overlap_hours: int = 24, org: str | None = None
    ) -> models.RotatedApiKey:
        """Replace an API key, by default the client's own, by a new one.

        The server returns ``.key`` only this once; this client goes on with the old key, which is
        valid for ``overlap_hours`` (0 to 720) more, or until it ends anyway. Raises ConflictError for
        a key that was rotated before or has ended.
        """
        slug = self._slug(org)
        own = key_id or self.whoami().key_id
        return self._run(routes.rotate_key(slug, own, overlap_hours))

    def revoke_key(self, key_id: str, *, org: str | None = None) -> None:
        """Revoke an API key. Raises NotFoundError."""
        self._run(routes.revoke_key(self._slug(org), key_id))

    def erase_subject(self, subject: str, *, org: str | None = None) -> models.Erasure:
        """Make a person's data unreadable, forever.

        Raises NotFoundError if there is no such subject, ConflictError in an org
        that does not seal.
        """
        return self._run(routes.erase_subject(self._slug(org), subject))

    def archive(self, *, org: str | None = None, wait_seconds: int = 30) -> models.Archive:
        """Archive a trail up to its newest checkpoint; return when it is done or the wait ends.

        Raises ConflictError where the server has no archive.
        """
        return self._run(routes.archive(self._slug(org), wait_seconds))

    def archive_status(self, *, org: str | None = None) -> models.Archive:
        """Return how far a trail is archived. Raises ConflictError as :meth:`archive` does."""
        return self._run(routes.archive_status(self._slug(org)))

    # Sending

    def _slug(self, org: str | None = None) -> str:
        if org is not None:
            return org
        if self._org is None:
            self._org = routes.own_org(self._run(routes.whoami()))
        return self._org

    def _run(self, call: Call[T]) -> T:
        if self._http.is_closed:
            raise ClientClosedError("this client is closed")
        try:
            for attempt in stamina.retry_context(**retries(call, self._server)):
                with attempt:
                    return read(call, self._exchange(call))
        except LedgerError as error:
            error.idempotency_key = call.idempotency_key
            name_proxy(error, self._server)
            raise
        raise AssertionError("retry_context ends with a result or an error")

    def _save(self, call: Call[None], path: Path) -> None:
        if self._http.is_closed:
            raise ClientClosedError("this client is closed")
        for attempt in stamina.retry_context(**retries(call, self._server)):
            with attempt, PartFile(path) as part:
                self._receive(call, part)
                part.finish()

    def _receive(self, call: Call[None], part: PartFile) -> None:
        try:
            response = self._http.send(request_of(self._http, call), stream=True)
            with contextlib.closing(response):
                if response.status_code >= 300:
                    response.read()
                check_stream(head_of(response), ZIP)
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    part.write(chunk)
        except (httpx2.RequestError, *BEFORE_SENDING) as error:
            raise wire_error(error, self._server) from error

    def _exchange(self, call: Call[T]) -> Reply:
        try:
            return reply_of(self._http.send(request_of(self._http, call)))
        except (httpx2.RequestError, *BEFORE_SENDING) as error:
            raise wire_error(error, self._server) from error
