"""Errors of timestamp authorities and witnesses, as one tree.

::

    AttestationError
    ├── AttestationUnavailable      no answer, or a temporary refusal: try again later
    └── WitnessRefused              the witness answered and did not cosign
        └── WitnessConflict         it last cosigned another size: submit again from there
            └── WitnessAhead        it cosigned a larger tree of this log than this log has

A token that does not verify is a TimestampError, as everywhere.
"""

from __future__ import annotations

from ledger.errors import QuireError


class AttestationError(QuireError):
    """An attestation could not be obtained."""


class AttestationUnavailable(AttestationError):
    """The authority or witness can't be reached, is too slow, or asks to try again later."""


class WitnessRefused(AttestationError):
    """The witness did not cosign; ``status`` is the HTTP status of its answer.

    422 for a proof made here means that the witness has another history of the log:
    the log was forked or rolled back.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class WitnessConflict(WitnessRefused):
    """The witness last cosigned at ``size``, which is not the old size of the submission."""

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message, status=409)
        self.size = size


class WitnessAhead(WitnessConflict):
    """The witness cosigned a larger tree of this log than the submitted one.

    Either another signer of the log is ahead, or the log lost entries that it had signed.
    """
