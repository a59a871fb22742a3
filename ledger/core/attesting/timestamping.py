"""Timestamps from an authority: requested over HTTP, and verified before they are returned."""

from __future__ import annotations

import secrets
from typing import Final

from ledger.core.attesting.errors import AttestationUnavailable
from ledger.core.attesting.peer import TIMEOUT_S, Peer
from ledger.timestamp import (
    NONCE_BITS,
    TOKEN_BYTES_MAX,
    VerifiedTimestamp,
    check_trust,
    granted,
    query,
    verify,
)

_OK: Final = 200


class Tsa(Peer):
    """A time-stamping authority (RFC 3161 over HTTP, section 3.4).

    ``ca_pem``: the CA certificates to trust it by; ``policy``: the OID that is requested
    and must be granted, or None for any. Raises TimestampError if either can't be used,
    AttestationError for an invalid URL. One object serves one event loop.
    """

    def __init__(
        self, url: str, ca_pem: bytes, policy: str | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        check_trust(ca_pem, policy)
        super().__init__("timestamp authority", url, timeout_s)
        self._ca_pem = ca_pem
        self._policy = policy

    async def stamp(self, message: bytes) -> tuple[bytes, VerifiedTimestamp]:
        """Returns a verified token over the message (DER), and its verified contents.

        Raises AttestationUnavailable without an answer, TimestampError if the answer
        is a refusal or does not verify.
        """
        nonce = secrets.randbits(NONCE_BITS)
        answer = await self.post(
            "",
            query(message, nonce, self._policy),
            "application/timestamp-query",
            TOKEN_BYTES_MAX,
        )
        if answer.status != _OK:
            raise AttestationUnavailable(f"{self.name} answered with HTTP {answer.status}")
        token = granted(answer.body)
        verified = verify(token, message, self._ca_pem, policy=self._policy, nonce=nonce)
        return token, verified
