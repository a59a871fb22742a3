"""Timestamps over HTTP from OpenSSL's authority, and the authority's faults."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from ledger.core.attesting.errors import AttestationError, AttestationUnavailable
from ledger.core.attesting.timestamping import Tsa
from ledger.errors import TimestampError
from ledger.timestamp import verify
from tests.support.canned import canned_server
from tests.support.timestamp_authority import OTHER_POLICY, POLICY, Mode, TimestampAuthority

MESSAGE = b"an anchor\n"


def tsa_of(authority: TimestampAuthority, policy: str | None = None) -> Tsa:
    return Tsa(authority.url, authority.ca_pem, policy, timeout_s=5)


async def test_a_token_is_verified_and_kept_unchanged(
    shared_authority: TimestampAuthority,
) -> None:
    async with tsa_of(shared_authority) as tsa:
        token, said = await tsa.stamp(MESSAGE)
        again, later = await tsa.stamp(MESSAGE)
    assert verify(token, MESSAGE, shared_authority.ca_pem) == said
    assert abs((datetime.now(UTC) - said.gen_time).total_seconds()) < 60
    assert said.policy == POLICY
    assert later.serial != said.serial
    assert again != token


async def test_the_policy_of_the_settings(shared_authority: TimestampAuthority) -> None:
    async with tsa_of(shared_authority, OTHER_POLICY) as tsa:
        assert (await tsa.stamp(MESSAGE))[1].policy == OTHER_POLICY
    async with tsa_of(shared_authority, "1.2.3.4") as tsa:
        with pytest.raises(TimestampError, match="granted no token"):
            await tsa.stamp(MESSAGE)


async def test_many_at_once(shared_authority: TimestampAuthority) -> None:
    async with tsa_of(shared_authority) as tsa:
        stamped = await asyncio.gather(*(tsa.stamp(b"%d" % n) for n in range(10)))
    assert len({said.serial for _, said in stamped}) == 10


@pytest.mark.parametrize("mode", [Mode.OTHER_CA, Mode.OTHER_NONCE])
async def test_tokens_that_do_not_verify_are_not_kept(
    timestamp_authority: TimestampAuthority, mode: Mode
) -> None:
    async with tsa_of(timestamp_authority) as tsa:
        timestamp_authority.mode = mode
        with pytest.raises(TimestampError, match="does not verify"):
            await tsa.stamp(MESSAGE)
        timestamp_authority.mode = Mode.GOOD
        await tsa.stamp(MESSAGE)


async def test_a_web_page_is_no_token(timestamp_authority: TimestampAuthority) -> None:
    timestamp_authority.mode = Mode.PAGE
    async with tsa_of(timestamp_authority) as tsa:
        with pytest.raises(TimestampError):
            await tsa.stamp(MESSAGE)


async def test_an_error_of_the_authority(timestamp_authority: TimestampAuthority) -> None:
    timestamp_authority.mode = Mode.ERROR
    async with tsa_of(timestamp_authority) as tsa:
        with pytest.raises(AttestationUnavailable, match="HTTP 503"):
            await tsa.stamp(MESSAGE)


async def test_an_endless_answer(timestamp_authority: TimestampAuthority) -> None:
    timestamp_authority.mode = Mode.ENDLESS
    async with tsa_of(timestamp_authority) as tsa:
        with pytest.raises(AttestationUnavailable, match="more than 65536 bytes"):
            await tsa.stamp(MESSAGE)


async def test_a_slow_authority(timestamp_authority: TimestampAuthority) -> None:
    timestamp_authority.mode = Mode.SLOW
    begun = time.monotonic()
    async with Tsa(timestamp_authority.url, timestamp_authority.ca_pem, timeout_s=0.5) as tsa:
        with pytest.raises(AttestationUnavailable, match=r"within 0\.5 s"):
            await tsa.stamp(MESSAGE)
    assert time.monotonic() - begun < 5


async def test_an_unreachable_authority(timestamp_authority: TimestampAuthority) -> None:
    async with tsa_of(timestamp_authority) as tsa:
        await tsa.stamp(MESSAGE)
        timestamp_authority.stop()
        with pytest.raises(AttestationUnavailable, match=r"can't be reached|the connection broke"):
            await tsa.stamp(MESSAGE)


async def test_redirects_are_not_followed(shared_authority: TimestampAuthority) -> None:
    with canned_server() as canned:
        canned.status, canned.headers = 302, {"location": shared_authority.url}
        async with Tsa(canned.url, shared_authority.ca_pem) as tsa:
            with pytest.raises(AttestationUnavailable, match="HTTP 302"):
                await tsa.stamp(MESSAGE)


@pytest.mark.parametrize("url", ["", "tsa.example", "ftp://tsa.example", "http://", "http://[::"])
def test_invalid_urls(shared_authority: TimestampAuthority, url: str) -> None:
    with pytest.raises(AttestationError, match="URL"):
        Tsa(url, shared_authority.ca_pem)


def test_unusable_trust_is_reported_at_once(shared_authority: TimestampAuthority) -> None:
    with pytest.raises(TimestampError, match="QUIRE_TSA_CA"):
        Tsa(shared_authority.url, b"")
    with pytest.raises(TimestampError, match="object identifier"):
        Tsa(shared_authority.url, shared_authority.ca_pem, "any")


async def test_messages_contain_no_password(shared_authority: TimestampAuthority) -> None:
    async with Tsa("http://u:secret@127.0.0.1:9/tsr?k=secret", shared_authority.ca_pem) as tsa:
        with pytest.raises(AttestationUnavailable) as caught:
            await tsa.stamp(MESSAGE)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)
