"""Verifies attestations of anchors: timestamp tokens, and cosignatures of witnesses."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from ledger.core.verification.work.faults import NO_ENTRY
from ledger.core.verification.work.segments import FaultList
from ledger.core.verification.work.trust import TrailTrust
from ledger.errors import NoteError, TimestampError
from ledger.note import parse_note
from ledger.storage.tree_out import Attestation, TreeReader

if TYPE_CHECKING:
    from ledger.policy import Policy


class Attestations:
    """Verifies attestations with the trusted authorities and witnesses; without those, reads none."""

    def __init__(self, trust: TrailTrust) -> None:
        self._authorities = trust.authorities
        self._policy = None if trust.witnesses is None else _policy(trust.witnesses)
        self._anchor: int | None = None
        self._cosigned: set[str] = set()
        self.attested: dict[str, int] = {}
        """By check: the size of the largest anchor with a valid attestation."""

    async def read(
        self,
        trees: TreeReader,
        sizes: tuple[int, int],
        faults: FaultList,
        passed: set[str],
        *,
        newest: bool = False,
    ) -> None:
        """Verify the attestations of anchors above the first of ``sizes``, up to the second.

        ``newest``: read from the newest on, and stop at the first valid one.
        """
        if self._authorities is not None:
            async with aclosing(trees.tokens(*sizes, newest_first=newest)) as tokens:
                async for token in tokens:
                    self._check_token(token, faults, passed)
                    if newest and "external_time" in passed:
                        break
        if self._policy is not None:
            async with aclosing(trees.cosignatures(*sizes, newest_first=newest)) as lines:
                async for line in lines:
                    self._check_line(line, self._policy, faults, passed)
                    if newest and "witnesses" in passed:
                        break

    def _check_token(self, token: Attestation, faults: FaultList, passed: set[str]) -> None:
        from ledger.timestamp import verify  # noqa: PLC0415 - most workers do not need it

        if token.note is None or token.data is None:
            reason = "the anchor is missing" if token.note is None else "it is too large"
        else:
            try:
                verify(token.data, token.note, self._authorities or b"")
            except TimestampError as error:
                reason = str(error)
            else:
                self._note_passed("external_time", token.size, passed)
                return
        reason = f"a timestamp of the anchor of size {token.size}: {reason}"
        faults.add(NO_ENTRY, "timestamp_invalid", reason)

    def _check_line(
        self, line: Attestation, policy: Policy, faults: FaultList, passed: set[str]
    ) -> None:
        if self._anchor != line.size:
            self._anchor, self._cosigned = line.size, set()
        try:
            if line.note is None or line.data is None:
                raise NoteError("the anchor is missing, or the cosignature is too large")
            self._cosigned |= policy.cosigned_by(parse_note(line.note), line.data)
        except NoteError as error:
            reason = f"a cosignature of the anchor of size {line.size}: {error}"
            faults.add(NO_ENTRY, "cosignature_invalid", reason)
            return
        if self._cosigned and policy.satisfied_by(self._cosigned):
            self._note_passed("witnesses", line.size, passed)

    def _note_passed(self, check: str, size: int, passed: set[str]) -> None:
        passed.add(check)
        self.attested[check] = max(size, self.attested.get(check, 0))


def _policy(data: bytes) -> Policy:
    from ledger.policy import parse_policy  # noqa: PLC0415 - as above

    return parse_policy(data)
