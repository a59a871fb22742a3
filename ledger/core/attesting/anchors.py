"""Has the newest anchor timestamped and cosigned, and old timestamps renewed.

An unreachable authority or witness delays only its own attestation: the next anchor
commits to all before it. A witness that saw more of the log than this database has,
or another history, raises an alarm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from ledger.core.attesting.errors import AttestationError, WitnessAhead, WitnessRefused
from ledger.core.attesting.timestamping import Tsa
from ledger.core.attesting.witnessing import WitnessClient
from ledger.errors import TileError, TimestampError
from ledger.storage import attestations, trees
from ledger.storage.database import Database
from ledger.storage.trees import ANCHOR_LOG, StoredCheckpoint
from ledger.tiles import consistency_proof, tiles_for_consistency

RENEWED_AT_ONCE: Final = 50
OTHER_HISTORY: Final = 422
"""C2SP tlog-witness: the consistency proof from the witness's size does not verify."""


class AttestationProblem(NamedTuple):
    """A missing timestamp or cosignature: which of the two, the peer that did not give it, and why."""

    kind: str
    peer: str
    reason: str


class Attested(NamedTuple):
    """The outcome of one turn; ``problems`` are for the log, ``alarms`` are security events."""

    tokens: int
    cosignatures: int
    problems: tuple[AttestationProblem, ...]
    alarms: tuple[str, ...]


class AnchorAttestation:
    """Requests timestamps and cosignatures of anchors. One object serves one event loop."""

    def __init__(
        self, database: Database, tsa: Tsa | None, witnesses: Sequence[WitnessClient]
    ) -> None:
        self._database = database
        self._tsa = tsa
        self._witnesses = witnesses
        self._alarmed: set[str] = set()

    async def attest(self, *, stamp: bool) -> Attested:
        """Have the newest anchor cosigned and, with ``stamp``, timestamped. Raises StorageError."""
        anchor = await trees.newest_checkpoint(self._database, ANCHOR_LOG)
        if anchor is None:
            return Attested(0, 0, (), ())
        problems: list[AttestationProblem] = []
        tokens = 0
        if stamp and await attestations.newest_stamped(self._database) < anchor.size:
            tokens = await self._stamp(anchor, problems)
        cosignatures, alarms = await self._cosign(anchor, problems)
        return Attested(tokens, cosignatures, tuple(problems), tuple(alarms))

    async def renew(self, days: int) -> Attested:
        """Add a token to anchors whose newest is older than ``days``. Raises StorageError."""
        problems: list[AttestationProblem] = []
        tokens = 0
        for anchor in await attestations.old_tokens(self._database, days, RENEWED_AT_ONCE):
            tokens += await self._stamp(anchor, problems)
            if problems:
                break
        return Attested(tokens, 0, tuple(problems), ())

    async def _stamp(self, anchor: StoredCheckpoint, problems: list[AttestationProblem]) -> int:
        if self._tsa is None:
            return 0
        try:
            token, verified = await self._tsa.stamp(anchor.note)
        except (AttestationError, TimestampError) as error:
            reason = f"no timestamp for anchor {anchor.size}: {error}"
            problems.append(AttestationProblem("timestamp", self._tsa.name, reason))
            return 0
        await attestations.add_token(self._database, anchor.size, verified.gen_time, token)
        return 1

    async def _cosign(
        self, anchor: StoredCheckpoint, problems: list[AttestationProblem]
    ) -> tuple[int, list[str]]:
        done = await attestations.witnesses_of(self._database, anchor.size)
        count = 0
        alarms: list[str] = []
        for witness in self._witnesses:
            if {_key_of(key.name, key.key_id) for key in witness.verifiers} <= done:
                continue
            try:
                cosignatures = await witness.cosign(anchor.note, self._proof_to(anchor.size))
            except (AttestationError, TileError) as error:
                if _contradicts(error):
                    alarms += await self._alarm(witness, error)
                    continue
                reason = f"no cosignature for anchor {anchor.size}: {error}"
                problems.append(AttestationProblem("cosignature", witness.name, reason))
                continue
            for signature, *_ in cosignatures:
                key = _key_of(signature.name, signature.key_id)
                line = signature.line()
                await attestations.add_cosignature(self._database, anchor.size, key, line)
                count += 1
        return count, alarms

    async def _alarm(self, witness: WitnessClient, error: Exception) -> list[str]:
        """Add a security event for a witness that contradicts this log, once per process."""
        text = f"{witness.name}: {error}"
        if witness.name in self._alarmed:
            return []
        self._alarmed.add(witness.name)
        await attestations.add_alarm(self._database, "witness_refused", text)
        return [text]

    def _proof_to(self, size: int) -> Callable[[int], Awaitable[Sequence[bytes]]]:
        async def prove(old_size: int) -> Sequence[bytes]:
            needed = tiles_for_consistency(old_size, size)
            tiles = await trees.tiles(self._database, ANCHOR_LOG, needed)
            return consistency_proof(old_size, size, tiles)

        return prove


def _contradicts(error: Exception) -> bool:
    """True if the witness reports another or a longer history, not merely a refusal."""
    if isinstance(error, WitnessAhead):
        return True
    return isinstance(error, WitnessRefused) and error.status == OTHER_HISTORY


def _key_of(name: str, key_id: bytes) -> str:
    return f"{name}+{key_id.hex()}"
