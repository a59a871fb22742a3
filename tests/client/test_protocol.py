"""The client protocol without I/O: requests, answers, refusals, retries."""

import copy
import pickle
from datetime import UTC, datetime

import msgspec
import pytest

from ledger.client import errors, models, protocol, routes
from ledger.client.errors import LedgerError, ProblemError, ProtocolError
from ledger.client.protocol import Reply, read, refusal, retry, retry_after_seconds
from ledger.client.transport import server_at
from ledger.client.verification import MAX_IDLE_POLLS, PollingDelay, verdict
from ledger.errors import QuireError

HASH = "ab" * 32


def reply(status: int, document: object, **headers: str) -> Reply:
    return Reply(status, headers, msgspec.json.encode(document))


def refused(status: int, slug: str, **extras: object) -> LedgerError:
    return refusal(reply(status, {"type": protocol.PROBLEM_TYPES + slug} | extras))


@pytest.mark.parametrize(("slug", "kind"), protocol._BY_SLUG.items())
def test_every_problem_has_its_error(slug: str, kind: type[ProblemError]) -> None:
    assert type(refused(499, slug)) is kind
    assert issubclass(kind, QuireError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.UnauthorizedError),
        (404, errors.NotFoundError),
        (418, ProblemError),
        (429, errors.TooManyRequestsError),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (301, ProtocolError),
    ],
)
def test_refusals_that_are_not_quires(status: int, kind: type[LedgerError]) -> None:
    assert type(refusal(Reply(status, {}, b"<html>"))) is kind
    assert type(refused(status, "of-a-newer-server")) is kind


def test_the_text_of_a_refusal() -> None:
    error = refused(400, "invalid-event", detail="too long", index=7, field="actor")
    assert isinstance(error, errors.InvalidEventError)
    assert (error.index, error.field, error.status) == (7, "actor", 400)
    assert str(error) == "event 7: too long (400)"
    frozen = refused(423, "org-frozen", title="Frozen", reason="head row edited")
    assert isinstance(frozen, errors.OrgFrozenError)
    assert frozen.reason == "head row edited"


def test_a_malformed_problem_document_is_still_a_refusal() -> None:
    error = refused(400, "invalid-event", index="7", field=9, detail=[], title=None)
    assert isinstance(error, errors.InvalidEventError)
    assert (error.index, error.field) == (None, None)
    assert str(error) == "the server gave no reason (400)"


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = errors.__doc__ or ""
    known = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in (kind for kind in known if issubclass(kind, QuireError)):
        assert f" {kind.__name__} " in drawn.replace("\n", " \n"), kind


def test_errors_survive_copying_and_pickling() -> None:
    receipt = models.Receipt(
        record_id="rec_1", seq=0, entry_hash=HASH, previous_hash=None, anchored_at=datetime.now(UTC)
    )
    job = models.VerificationJob(id="v", state="failed")
    for error in (
        refused(423, "org-frozen", reason="x"),
        errors.EventEncodingError("no object", 3),
        errors.PartialAppendError([receipt], 1),
        errors.VerificationFailedError(job, "x"),
    ):
        error.idempotency_key = "k"
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert (type(twin), str(twin)) == (type(error), str(error))
            assert twin.idempotency_key == "k"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 5000}, 999_999_999.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:09 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            9.0,
        ),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


@pytest.mark.parametrize("repeatable", [True, False])
def test_which_requests_are_retried(repeatable: bool) -> None:
    assert retry(errors.ConnectFailedError(), repeatable=repeatable) is True
    assert retry(refused(503, "unavailable"), repeatable=repeatable) is True
    assert retry(refused(429, "too-many-requests"), repeatable=repeatable) is True
    assert retry(refused(409, "not-yet-signed"), repeatable=repeatable) is True
    assert retry(refused(409, "conflict"), repeatable=repeatable) is False
    assert retry(refused(503, "outcome-unknown"), repeatable=repeatable) is repeatable
    assert retry(refused(500, "internal"), repeatable=repeatable) is repeatable
    assert retry(refusal(Reply(503, {}, b"")), repeatable=repeatable) is repeatable
    assert retry(errors.ConnectionLostError(), repeatable=repeatable) is repeatable
    assert retry(refused(400, "invalid-request"), repeatable=repeatable) is False
    assert retry(ProtocolError(), repeatable=repeatable) is False
    assert retry(RuntimeError(), repeatable=repeatable) is False


def test_the_servers_wait_counts_up_to_a_bound() -> None:
    busy = Reply(429, {"retry-after": "3"}, b"")
    assert retry(refusal(busy), repeatable=False) == 3.0
    assert retry(refusal(Reply(429, {"retry-after": "31"}, b"")), repeatable=True) is False


def test_members_of_a_newer_server_are_ignored() -> None:
    document = {
        "record_id": "rec_1", "seq": 4, "entry_hash": HASH, "previous_hash": HASH,
        "anchored_at": "2026-01-02T03:04:05.678901Z", "checkpoint": {"size": 5},
    }  # fmt: skip
    receipt = read(routes.append("o", b"{}", None), reply(201, document))
    assert receipt.anchored_at == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b'{"seq":"x"}', b"\xff", b"[" * 100_000])
def test_an_answer_of_another_shape_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(routes.head("o"), Reply(200, {}, body))


def test_one_payload_python_has_no_value_for_leaves_the_page_readable() -> None:
    body = (
        b'{"entries":[{"record_id":"rec_1","seq":0,"entry_hash":"a","previous_hash":null,'
        b'"anchored_at":"2026-01-02T03:04:05Z","signature":"s","key":"k","payload":{"n": 1e999}}],'
        b'"next_cursor":null}'
    )
    [entry] = read(routes.entries("o", {}, None), Reply(200, {}, body)).entries
    assert bytes(entry.payload_raw) == b'{"n": 1e999}'
    with pytest.raises(ProtocolError, match="rec_1"):
        _ = entry.payload


def test_an_append_always_carries_a_key() -> None:
    made_up = {routes.append("o", b"{}", None).idempotency_key for _ in range(100)}
    assert len(made_up) == 100
    assert routes.append("o", b"{}", "mine").headers["idempotency-key"] == "mine"
    for bad in ("", "a\nb", "é"):
        with pytest.raises(errors.InvalidArgumentError):
            routes.append("o", b"{}", bad)


def test_paths_and_queries() -> None:
    erasure = routes.erase_subject("o", "a/b?c#d é")
    assert (erasure.method, erasure.path) == ("POST", "/v1/orgs/o/erasures")
    assert erasure.body == '{"subject":"a/b?c#d é"}'.encode()
    for bad in ("", ".", ".."):
        with pytest.raises(errors.InvalidArgumentError):
            routes.entry("o", bad)
    call = routes.entries("o", {"actor": None, "since": datetime(2026, 1, 1, tzinfo=UTC)}, "c")
    assert call.query == {"since": "2026-01-01T00:00:00+00:00", "cursor": "c"}
    assert routes.entries("o", {"page_size": 5}, None).query == {"limit": "5"}
    with pytest.raises(errors.InvalidArgumentError, match="time zone"):
        routes.entries("o", {"until": datetime(2026, 1, 1)}, None)  # noqa: DTZ001
    with pytest.raises(TypeError, match="actr"):
        routes.entries("o", {"actr": "x"}, None)  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://h", "http://", "http://u:p@h", "http://h/?q", "http://h:port"],
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        server_at(url, "key", 1.0, 1)


def test_a_key_from_a_file_can_end_with_a_newline() -> None:
    server = server_at("https://h.example/quire/", " key\n", 1.0, 1)
    assert server.url == "https://h.example/quire"
    assert server.auth._authorization == "Bearer key"


def test_a_verification_is_followed_to_its_end() -> None:
    seen: list[int] = []
    watch = PollingDelay(lambda job: seen.append(job.processed))
    running = models.VerificationJob(id="v", state="running", processed=1)
    assert watch.first_wait_seconds == 0
    assert 0 < (watch.seconds(running) or 0) <= 1
    assert watch.seconds(models.VerificationJob(id="v", state="done", processed=2)) is None
    assert seen == [1, 2]


def test_a_verification_without_a_verdict_is_an_error() -> None:
    for job in (
        models.VerificationJob(id="v", state="failed"),
        models.VerificationJob(id="v", state="done"),
    ):
        with pytest.raises(errors.VerificationFailedError):
            verdict(job)
    watch = PollingDelay(None)
    running = models.VerificationJob(id="v", state="running", processed=1)
    for _ in range(MAX_IDLE_POLLS):
        watch.seconds(running)
    with pytest.raises(errors.VerificationFailedError, match="makes no progress"):
        watch.seconds(running)


def test_a_verdict_is_true_exactly_when_valid() -> None:
    counts = {"total_entries": 1, "verified_entries": 1, "failed_entries": 1, "fault_count": 1}
    assert not models.TrailVerification(valid=False, **counts)  # type: ignore[arg-type]
    assert models.TrailVerification(valid=True, **counts)  # type: ignore[arg-type]
    assert models.TrailChecks().head == "not_checked"
