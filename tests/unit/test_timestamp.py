"""Timestamps granted by OpenSSL's authority verify; all other tokens are refused."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import TimestampError
from ledger.timestamp import NONCE_BITS, TOKEN_BYTES_MAX, granted, query, verify
from tests.support.certificates import issue
from tests.support.timestamp_authority import (
    OTHER_POLICY,
    POLICY,
    Mode,
    TimestampAuthority,
)

MESSAGE = b"quire.example/anchors\n1\nroot\n"
NONCE = 2**63 + 12345


@pytest.fixture(scope="module")
def token(shared_authority: TimestampAuthority) -> bytes:
    return granted(shared_authority.reply(query(MESSAGE, NONCE)))


def test_a_verifier_without_tokens_does_not_load_their_parser() -> None:
    program = (
        "import sys, ledger.timestamp\n"
        "sys.exit(str([name for name in ('rfc3161_client', 'cryptography') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.stderr.strip() == b"[]"


def test_a_token_states_time_authority_and_policy(
    shared_authority: TimestampAuthority, token: bytes
) -> None:
    said = verify(token, MESSAGE, shared_authority.ca_pem, policy=POLICY, nonce=NONCE)
    assert abs(datetime.now(UTC) - said.gen_time) < timedelta(minutes=5)
    assert said.gen_time.utcoffset() == timedelta(0)
    assert said.accuracy == timedelta(seconds=1, milliseconds=500, microseconds=100)
    assert said.policy == POLICY
    assert said.authority == "CN=Test TSA"
    assert said.serial > 0


def test_the_query_is_what_openssl_reads(tmp_path: Path) -> None:
    path = tmp_path / "query.tsq"
    path.write_bytes(query(MESSAGE, NONCE, OTHER_POLICY))
    done = subprocess.run(
        ["openssl", "ts", "-query", "-in", path, "-text"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"Policy OID: {OTHER_POLICY}" in done.stdout
    assert f"Nonce: 0x{NONCE:016X}" in done.stdout
    assert "Certificate required: yes" in done.stdout


@pytest.mark.parametrize("nonce", [0, 127, 128, 2**NONCE_BITS - 1])
def test_any_nonce_comes_back(shared_authority: TimestampAuthority, nonce: int) -> None:
    token = granted(shared_authority.reply(query(MESSAGE, nonce)))
    verify(token, MESSAGE, shared_authority.ca_pem, nonce=nonce)
    with pytest.raises(TimestampError, match="Nonce"):
        verify(token, MESSAGE, shared_authority.ca_pem, nonce=nonce + 1)


def test_the_policy_asked_for_is_granted(shared_authority: TimestampAuthority) -> None:
    token = granted(shared_authority.reply(query(MESSAGE, NONCE, OTHER_POLICY)))
    said = verify(token, MESSAGE, shared_authority.ca_pem, policy=OTHER_POLICY)
    assert said.policy == OTHER_POLICY
    with pytest.raises(TimestampError, match="Policy"):
        verify(token, MESSAGE, shared_authority.ca_pem, policy=POLICY)


def test_a_refusal_contains_the_authoritys_text(shared_authority: TimestampAuthority) -> None:
    response = shared_authority.reply(query(MESSAGE, NONCE, "1.2.3.4.5"))
    with pytest.raises(TimestampError, match=r"rejected.*QUIRE_TSA_POLICY.*policy"):
        granted(response)


@pytest.mark.parametrize("mode", [Mode.CHAIN, Mode.SHA1_ID, Mode.NO_ACCURACY])
def test_tokens_as_other_authorities_make_them(
    shared_authority: TimestampAuthority, mode: Mode
) -> None:
    token = granted(shared_authority.reply(query(MESSAGE, NONCE), mode))
    said = verify(token, MESSAGE, shared_authority.ca_pem, nonce=NONCE)
    assert (said.accuracy is None) == (mode is Mode.NO_ACCURACY)


def test_a_chain_in_the_token_needs_no_intermediate_from_us(
    shared_authority: TimestampAuthority,
) -> None:
    token = granted(shared_authority.reply(query(MESSAGE, NONCE), Mode.CHAIN))
    verify(token, MESSAGE, shared_authority.root_pem)


def test_an_authority_of_another_ca(shared_authority: TimestampAuthority) -> None:
    token = granted(shared_authority.reply(query(MESSAGE, NONCE), Mode.OTHER_CA))
    with pytest.raises(TimestampError, match="verify"):
        verify(token, MESSAGE, shared_authority.ca_pem)


def test_a_certificate_for_another_purpose(
    shared_authority: TimestampAuthority, token: bytes
) -> None:
    verify(shared_authority.forge(token, "tsa", "-cades"), MESSAGE, shared_authority.ca_pem)
    with pytest.raises(TimestampError, match="verify"):
        verify(shared_authority.forge(token, "code", "-cades"), MESSAGE, shared_authority.ca_pem)


def test_a_signature_that_does_not_name_its_certificate(
    shared_authority: TimestampAuthority, token: bytes
) -> None:
    with pytest.raises(TimestampError, match="the certificate it was signed with"):
        verify(shared_authority.forge(token, "tsa"), MESSAGE, shared_authority.ca_pem)


def test_another_certificate_for_the_same_key(
    shared_authority: TimestampAuthority, token: bytes
) -> None:
    """A certificate with the same names, serial and key but longer validity: not the signed one."""
    other = token.replace(shared_authority.tsa.der(), shared_authority.reissued().der())
    assert other != token
    with pytest.raises(TimestampError, match="another certificate"):
        verify(other, MESSAGE, shared_authority.ca_pem)


def test_another_message(shared_authority: TimestampAuthority, token: bytes) -> None:
    with pytest.raises(TimestampError, match="Mismatch between messages"):
        verify(token, MESSAGE + b"\n", shared_authority.ca_pem)


@pytest.mark.parametrize(
    "pem", [b"", b"no PEM", issue("Another Root").pem() * 33], ids=["empty", "no PEM", "too many"]
)
def test_ca_certificates_that_cannot_be_used(token: bytes, pem: bytes) -> None:
    with pytest.raises(TimestampError, match="CA certificates"):
        verify(token, MESSAGE, pem)


def test_a_policy_that_is_no_oid(token: bytes, shared_authority: TimestampAuthority) -> None:
    with pytest.raises(TimestampError, match="object identifier"):
        query(MESSAGE, NONCE, "default")
    with pytest.raises(TimestampError, match="object identifier"):
        verify(token, MESSAGE, shared_authority.ca_pem, policy="1.")


def test_too_large(shared_authority: TimestampAuthority) -> None:
    with pytest.raises(TimestampError, match="bytes"):
        granted(bytes(TOKEN_BYTES_MAX + 1))
    with pytest.raises(TimestampError, match="bytes"):
        verify(bytes(TOKEN_BYTES_MAX + 1), MESSAGE, shared_authority.ca_pem)


def test_every_bit_of_a_token_counts_or_is_covered_elsewhere(
    shared_authority: TimestampAuthority, token: bytes
) -> None:
    """A flipped bit is refused, or changes no statement of the token."""
    genuine = verify(token, MESSAGE, shared_authority.ca_pem, nonce=NONCE)
    for position in range(len(token)):
        changed = bytearray(token)
        changed[position] ^= 1 << position % 8
        try:
            said = verify(bytes(changed), MESSAGE, shared_authority.ca_pem, nonce=NONCE)
        except TimestampError:
            continue
        assert said == genuine, position


def test_a_token_cut_anywhere(shared_authority: TimestampAuthority, token: bytes) -> None:
    for size in range(0, len(token), 7):
        with pytest.raises(TimestampError):
            verify(token[:size], MESSAGE, shared_authority.ca_pem)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_response(data: bytes) -> None:
    with pytest.raises(TimestampError):
        granted(data)


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_no_token(shared_authority: TimestampAuthority, data: bytes) -> None:
    with pytest.raises(TimestampError):
        verify(data, MESSAGE, shared_authority.ca_pem)


@given(data=st.data())
def test_a_token_with_bytes_replaced(
    shared_authority: TimestampAuthority, token: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(token) - 1))
    changed = token[:start] + data.draw(st.binary(max_size=20)) + token[start + 5 :]
    try:
        verify(changed, MESSAGE, shared_authority.ca_pem, nonce=NONCE)
    except TimestampError:
        return
    assert changed == token


def test_no_bit_of_a_token_can_change(shared_authority: TimestampAuthority, token: bytes) -> None:
    """Also not the bits of the versions and of the algorithm's name, which no signature covers."""
    taken = []
    for bit in range(8 * len(token)):
        changed = bytearray(token)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            verify(bytes(changed), MESSAGE, shared_authority.ca_pem, nonce=NONCE)
        except TimestampError:
            continue
        taken.append(bit)
    assert taken == []
