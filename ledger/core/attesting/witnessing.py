"""Cosignatures from witnesses (C2SP tlog-witness, the client's side)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from ledger.checkpoint import SIZE_MAX, parse_checkpoint
from ledger.core.attesting.errors import (
    AttestationUnavailable,
    WitnessAhead,
    WitnessConflict,
    WitnessRefused,
)
from ledger.core.attesting.peer import TIMEOUT_S, Peer, PeerAnswer
from ledger.errors import InvalidSignature, NoteError
from ledger.note import (
    NOTE_BYTES_MAX,
    NoteSignature,
    VerifiedSignature,
    Verifier,
    parse_note,
    parse_signatures,
)
from ledger.policy import Policy
from ledger.submission import Submission

Prove = Callable[[int], Awaitable[Sequence[bytes]]]
"""Returns the consistency proof from a size to the submitted size."""

ROUNDS_MAX: Final = 4
"""Submissions of one checkpoint at most: the witness may cosign other sizes meanwhile."""
SIZE_MEDIA_TYPE: Final = "text/x.tlog.size"
_OK: Final = 200
_CONFLICT: Final = 409
_LATER: Final = {408, 413, 425, 429}
_SERVER_ERRORS: Final = 500
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_REASONS: Final = {
    400: "it could not read the submission",
    403: "it does not accept the log's signature; check that it has the log's current keys",
    404: "it does not know this log; its operator must add the log's keys",
    422: "it holds another history of this log, or the proof is wrong: "
    "the log may have been forked or rolled back",
}


class WitnessClient(Peer):
    """A client of one witness: its submission prefix, and its keys (one or several of each type).

    Remembers in memory the size that the witness last cosigned. Raises AttestationError for
    an invalid URL. One object serves one event loop.
    """

    def __init__(
        self, url: str, verifiers: Iterable[Verifier], *, timeout_s: float = TIMEOUT_S
    ) -> None:
        super().__init__("witness", url, timeout_s)
        self.verifiers = tuple(verifiers)
        self._known = {(key.name, key.key_id): key for key in self.verifiers}
        self._size = 0

    async def cosign(self, note: bytes, prove: Prove) -> tuple[VerifiedSignature, ...]:
        """Submit a checkpoint from the size that the witness last cosigned; returns cosignatures.

        ``prove(old_size)`` is called for 0 < old_size < the checkpoint's size. Raises
        WitnessAhead if the witness cosigned a larger tree, AttestationUnavailable, WitnessRefused.
        """
        size = parse_checkpoint(parse_note(note).text).size
        for _ in range(ROUNDS_MAX):
            if self._size > size:
                # Submitted from 0 next time: the witness then states its size again.
                ahead, self._size = self._size, 0
                raise WitnessAhead(
                    f"{self.name} has cosigned size {ahead} of this log, but the log has only "
                    f"size {size}",
                    size=ahead,
                )
            old_size = self._size
            proof = await prove(old_size) if 0 < old_size < size else ()
            try:
                cosignatures = await self.add_checkpoint(old_size, proof, note)
            except WitnessConflict as conflict:
                self._size = conflict.size
                continue
            self._size = size
            return cosignatures
        raise AttestationUnavailable(
            f"{self.name} named another size at each of {ROUNDS_MAX} submissions; check whether "
            "another server submits checkpoints of this log to it"
        )

    async def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes
    ) -> tuple[VerifiedSignature, ...]:
        """Submit a checkpoint with its consistency proof; returns verified cosignatures.

        Raises WitnessConflict with the size that the proof must start from, WitnessRefused
        with the reason, AttestationUnavailable if a later attempt may succeed.
        """
        body = Submission(old_size, tuple(proof), note).body()
        answer = await self.post("/add-checkpoint", body, "text/plain", NOTE_BYTES_MAX)
        if answer.status == _CONFLICT:
            raise self._conflict(answer, old_size)
        if answer.status in _LATER or answer.status >= _SERVER_ERRORS:
            raise AttestationUnavailable(f"{self.name} answered with HTTP {answer.status}")
        if answer.status != _OK:
            reason = _REASONS.get(answer.status, "the reason is not known")
            raise self._refused(answer, reason)
        return self._cosignatures(answer, parse_note(note).text)

    def _conflict(self, answer: PeerAnswer, old_size: int) -> WitnessRefused:
        found = _SIZE.fullmatch(answer.body)
        if answer.media_type != SIZE_MEDIA_TYPE or not found or int(found[1]) > SIZE_MAX:
            return self._refused(answer, "its answer names no valid size")
        size = int(found[1])
        if size == old_size:
            return self._refused(answer, "its answer names the size that was submitted")
        return WitnessConflict(f"{self.name} last cosigned size {size}, not {old_size}", size=size)

    def _cosignatures(self, answer: PeerAnswer, text: bytes) -> tuple[VerifiedSignature, ...]:
        """The cosignatures by the witness's keys; lines by other keys are ignored."""
        try:
            found = tuple(
                self._verified(line, text)
                for line in parse_signatures(answer.body)
                if (line.name, line.key_id) in self._known
            )
        except NoteError as error:
            raise self._refused(answer, str(error)) from error
        if not found:
            raise self._refused(answer, "no key that the policy lists for it signed the answer")
        return found

    def _verified(self, line: NoteSignature, text: bytes) -> VerifiedSignature:
        verifier = self._known[line.name, line.key_id]
        time_s = verifier.verify(text, line.blob)
        if not time_s:
            raise InvalidSignature(f"the cosignature by {line.name} has no time")
        return VerifiedSignature(line, verifier, time_s)

    def _refused(self, answer: PeerAnswer, reason: str) -> WitnessRefused:
        return WitnessRefused(
            f"{self.name} did not cosign (HTTP {answer.status}): {reason}", status=answer.status
        )


def witnesses_of(policy: Policy, *, timeout_s: float = TIMEOUT_S) -> list[WitnessClient]:
    """Clients of the policy's witnesses that have a URL; keys under one URL are one witness's.

    Raises AttestationError for an invalid URL.
    """
    by_url: dict[str, list[Verifier]] = {}
    for witness in policy.witnesses:
        if witness.url is not None:
            by_url.setdefault(witness.url, []).append(witness.verifier)
    return [WitnessClient(url, keys, timeout_s=timeout_s) for url, keys in by_url.items()]
