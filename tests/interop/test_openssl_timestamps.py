"""OpenSSL accepts the stored tokens, and refuses the tokens that Quire refuses."""

import subprocess
from pathlib import Path

import pytest

from ledger.core.attesting.timestamping import Tsa
from tests.support.timestamp_authority import Mode, TimestampAuthority

MESSAGE = b"quire.example/anchors\n1\nroot\n"


def openssl_verifies(directory: Path, token: bytes, message: bytes, ca_pem: bytes) -> bool:
    for name, content in (("token", token), ("message", message), ("ca.pem", ca_pem)):
        (directory / name).write_bytes(content)
    command = ["openssl", "ts", "-verify", "-token_in", "-in", "token", "-data", "message"]
    done = subprocess.run(
        [*command, "-CAfile", "ca.pem"], cwd=directory, capture_output=True, check=False
    )
    return done.returncode == 0 and b"Verification: OK" in done.stdout


@pytest.mark.parametrize("mode", [Mode.GOOD, Mode.CHAIN, Mode.SHA1_ID, Mode.NO_ACCURACY])
async def test_openssl_verifies_the_stored_tokens(
    tmp_path: Path, timestamp_authority: TimestampAuthority, mode: Mode
) -> None:
    timestamp_authority.mode = mode
    ca_pem = timestamp_authority.ca_pem
    async with Tsa(timestamp_authority.url, ca_pem) as tsa:
        token, _ = await tsa.stamp(MESSAGE)
    assert openssl_verifies(tmp_path, token, MESSAGE, ca_pem)
    assert not openssl_verifies(tmp_path, token, MESSAGE + b"\n", ca_pem)
