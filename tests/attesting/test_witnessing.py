"""The witness client against real witnesses, and against answers that no witness should give."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from ledger.core.attesting.errors import (
    AttestationError,
    AttestationUnavailable,
    WitnessAhead,
    WitnessConflict,
    WitnessRefused,
)
from ledger.core.attesting.witnessing import ROUNDS_MAX, Prove, WitnessClient, witnesses_of
from ledger.note import NOTE_BYTES_MAX, CosignatureSigner, MlDsaSigner, add_signatures
from ledger.policy import parse_policy
from ledger.submission import parse_submission
from tests.plugins.witness import StartWitness
from tests.support.canned import Canned, canned_server
from tests.support.small_log import SmallLog

LOG = SmallLog()
KEY = CosignatureSigner.from_seed("witness.example/w1", b"1" * 32)
PQ_KEY = MlDsaSigner.from_seed("witness.example/w1", b"2" * 32)
KEYS = [KEY.verifier(), PQ_KEY.verifier()]


def prover(size: int, branch: int = 0, asked: list[int] | None = None) -> Prove:
    async def prove(old_size: int) -> Sequence[bytes]:
        if asked is not None:
            asked.append(old_size)
        return LOG.proof(old_size, size, branch)

    return prove


@pytest.fixture
def canned() -> Iterator[Canned]:
    with canned_server() as server:
        yield server


async def test_a_log_that_grows(start_witness: StartWitness) -> None:
    process = start_witness(LOG.policy)
    async with WitnessClient(process.url, process.verifiers) as witness:
        for size in (0, 5, 5, 256, 300):
            found = await witness.cosign(LOG.note(size), prover(size))
            assert {one.verifier for one in found} == set(process.verifiers)
            assert all(one.time_s for one in found)


async def test_a_restarted_server_asks_for_the_witness_s_size(
    start_witness: StartWitness,
) -> None:
    process = start_witness(LOG.policy)
    async with WitnessClient(process.url, process.verifiers) as witness:
        await witness.cosign(LOG.note(50), prover(50))
    asked: list[int] = []
    async with WitnessClient(process.url, process.verifiers) as witness:
        await witness.cosign(LOG.note(60), prover(60, asked=asked))
        await witness.cosign(LOG.note(70), prover(70, asked=asked))
    assert asked == [50, 60]


async def test_a_witness_that_has_seen_more(start_witness: StartWitness) -> None:
    process = start_witness(LOG.policy)
    async with WitnessClient(process.url, process.verifiers) as witness:
        await witness.cosign(LOG.note(50), prover(50))
        for _ in range(2):
            with pytest.raises(WitnessAhead) as caught:
                await witness.cosign(LOG.note(40), prover(40))
            assert caught.value.size == 50
        await witness.cosign(LOG.note(51), prover(51))


async def test_another_history_is_refused(start_witness: StartWitness) -> None:
    process = start_witness(LOG.policy)
    async with WitnessClient(process.url, process.verifiers) as witness:
        await witness.cosign(LOG.note(50), prover(50))
        for size in (50, 60):
            with pytest.raises(WitnessRefused, match="forked") as caught:
                await witness.cosign(LOG.note(size, 1), prover(size, 1))
            assert caught.value.status == 422


async def test_a_log_the_witness_does_not_know(start_witness: StartWitness) -> None:
    process = start_witness(SmallLog("other.example").policy)
    async with WitnessClient(process.url, process.verifiers) as witness:
        with pytest.raises(WitnessRefused, match="does not know this log") as caught:
            await witness.cosign(LOG.note(5), prover(5))
    assert caught.value.status == 404


async def test_keys_the_witness_does_not_have(start_witness: StartWitness) -> None:
    process = start_witness(LOG.policy)
    async with WitnessClient(process.url, [KEY.verifier()]) as witness:
        with pytest.raises(WitnessRefused, match="no key that the policy lists"):
            await witness.cosign(LOG.note(5), prover(5))


async def test_a_conflict_of_one_submission(start_witness: StartWitness) -> None:
    process = start_witness(LOG.policy)
    async with WitnessClient(process.url, process.verifiers) as witness:
        await witness.add_checkpoint(0, (), LOG.note(5))
        with pytest.raises(WitnessConflict) as caught:
            await witness.add_checkpoint(0, (), LOG.note(9))
        assert caught.value.size == 5
        await witness.add_checkpoint(5, LOG.proof(5, 9), LOG.note(9))


async def test_a_witness_that_is_killed_and_comes_back(start_witness: StartWitness) -> None:
    process = start_witness(LOG.policy)
    async with WitnessClient(process.url, process.verifiers) as witness:
        await witness.cosign(LOG.note(5), prover(5))
        process.kill()
        with pytest.raises(AttestationUnavailable, match=r"can't be reached|the connection broke"):
            await witness.cosign(LOG.note(6), prover(6))
        process.start()
        await witness.cosign(LOG.note(7), prover(7))


async def test_a_policy_of_two_organisations(start_witness: StartWitness) -> None:
    first, second = start_witness(LOG.policy), start_witness(LOG.policy, "w2.example")
    policy = parse_policy(
        f"{first.policy('a')}{second.policy('b')}group both all a b\nquorum both\n".encode()
    )
    witnesses = witnesses_of(policy)
    assert [witness.verifiers for witness in witnesses] == [first.verifiers, second.verifiers]
    note = LOG.note(9)
    keys = [signer.verifier() for signer in LOG.signers]
    for witness, enough in zip(witnesses, (False, True), strict=True):
        async with witness:
            found = await witness.cosign(LOG.note(9), prover(9))
        note = add_signatures(note, [one.signature for one in found])
        assert policy.open(note, keys).quorum == enough


def test_witnesses_without_a_url_are_not_asked() -> None:
    assert witnesses_of(parse_policy(f"witness w {KEY.vkey()}\nquorum w\n".encode())) == []
    with pytest.raises(AttestationError, match="URL of the witness"):
        witnesses_of(parse_policy(f"witness w {KEY.vkey()} nowhere\nquorum w\n".encode()))


async def test_the_request_has_the_specified_form(canned: Canned) -> None:
    canned.body = KEY.line(LOG.text(9), 1)
    note = LOG.note(9)
    async with WitnessClient(f"{canned.url}/a/prefix/", [KEY.verifier()]) as witness:
        await witness.add_checkpoint(5, LOG.proof(5, 9), note)
    ((path, body),) = canned.requests
    assert path == "/a/prefix/add-checkpoint"
    submission = parse_submission(body)
    assert (submission.old_size, submission.note) == (5, note)
    assert list(submission.proof) == LOG.proof(5, 9)


async def test_cosignatures_of_unknown_keys_are_ignored(canned: Canned) -> None:
    stranger = MlDsaSigner.from_seed("stranger.example", b"s" * 32)
    canned.body = stranger.line(LOG.text(9), 1) + KEY.line(LOG.text(9), 1)
    async with WitnessClient(canned.url, [KEY.verifier()]) as witness:
        (found,) = await witness.add_checkpoint(0, (), LOG.note(9))
    assert found.verifier == KEY.verifier()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"thanks\n",
        b"\xff\n",
        PQ_KEY.line(LOG.text(9), 0),
        KEY.line(LOG.text(8), 1),
        KEY.line(LOG.text(9), 1)[:-1],
        b"\n" + KEY.line(LOG.text(9), 1),
        KEY.line(LOG.text(9), 1) * 101,
    ],
    ids=["empty", "text", "bytes", "no time", "other size", "cut", "blank line", "too many"],
)
async def test_answers_without_cosignatures(canned: Canned, body: bytes) -> None:
    canned.body = body
    async with WitnessClient(canned.url, KEYS) as witness:
        with pytest.raises(WitnessRefused, match="did not cosign"):
            await witness.add_checkpoint(0, (), LOG.note(9))


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"5\n", "text/plain"),
        (b"5", "text/x.tlog.size"),
        (b"05\n", "text/x.tlog.size"),
        (b"-1\n", "text/x.tlog.size"),
        (b"", "text/x.tlog.size"),
        (b"9999999999999999999\n", "text/x.tlog.size"),
        (b"0\n", "text/x.tlog.size"),
    ],
)
async def test_conflicts_without_a_size(canned: Canned, body: bytes, media_type: str) -> None:
    canned.status, canned.body, canned.media_type = 409, body, media_type
    async with WitnessClient(canned.url, [KEY.verifier()]) as witness:
        with pytest.raises(WitnessRefused, match="HTTP 409"):
            await witness.cosign(LOG.note(9), prover(9))
    assert len(canned.requests) == 1


async def test_endless_conflicts_are_given_up(canned: Canned) -> None:
    canned.status, canned.media_type, canned.body = 409, "text/x.tlog.size; charset=utf-8", b"1\n"

    async def prove(old_size: int) -> Sequence[bytes]:
        canned.body = b"%d\n" % (old_size % 5 + 1)
        return LOG.proof(old_size, 9)

    async with WitnessClient(canned.url, [KEY.verifier()]) as witness:
        with pytest.raises(AttestationUnavailable, match="named another size"):
            await witness.cosign(LOG.note(9), prove)
    assert len(canned.requests) == ROUNDS_MAX


@pytest.mark.parametrize("status", [408, 413, 429, 500, 502, 503])
async def test_answers_that_ask_to_retry_later(canned: Canned, status: int) -> None:
    canned.status = status
    async with WitnessClient(canned.url, [KEY.verifier()]) as witness:
        with pytest.raises(AttestationUnavailable, match=f"HTTP {status}"):
            await witness.cosign(LOG.note(9), prover(9))


@pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 418, 422])
async def test_answers_that_refuse(canned: Canned, status: int) -> None:
    canned.status, canned.headers = status, {"location": "http://127.0.0.1:9/"}
    async with WitnessClient(canned.url, [KEY.verifier()]) as witness:
        with pytest.raises(WitnessRefused) as caught:
            await witness.cosign(LOG.note(9), prover(9))
    assert caught.value.status == status


async def test_a_too_large_answer(canned: Canned) -> None:
    canned.body = bytes(NOTE_BYTES_MAX + 1)
    async with WitnessClient(canned.url, [KEY.verifier()]) as witness:
        with pytest.raises(AttestationUnavailable, match="more than"):
            await witness.cosign(LOG.note(9), prover(9))


async def test_an_answer_sent_byte_by_byte_is_cut() -> None:
    """A timeout per read would never expire."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        try:
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        except OSError:
            pass  # the client cut the connection, as it should
        writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with WitnessClient(
            f"http://127.0.0.1:{port}", [KEY.verifier()], timeout_s=0.5
        ) as witness:
            with pytest.raises(AttestationUnavailable, match=r"within 0\.5 s"):
                await witness.cosign(LOG.note(9), prover(9))
