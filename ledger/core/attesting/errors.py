"""What goes wrong with authorities and witnesses, as one tree.

::

    AttestationError
    ├── AttestationUnavailable      no answer, or one that asks for patience: try again later
    └── WitnessRefused              a witness that answered and did not cosign
        ├── WitnessConflict         it stands at another size; the submission goes on from there
        └── WitnessAhead            it has seen more of this log than this log has

A token that does not verify is a TimestampError, as everywhere.
"""

from __future__ import annotations

from ledger.errors import QuireError


class AttestationError(QuireError):
    """An attestation that could not be had."""


class AttestationUnavailable(AttestationError):
    """An authority or witness that can't be reached, is late, or asks to be asked later."""


class WitnessRefused(AttestationError):
    """A witness that did not cosign; ``status`` is the HTTP status it answered with.

    422 with a proof that we made means that it holds another history of the log:
    the log was forked or rolled back.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class WitnessConflict(WitnessRefused):
    """The witness last cosigned at ``size``, which is not the old size it was told."""

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message, status=409)
        self.size = size


class WitnessAhead(WitnessConflict):
    """The witness cosigned a larger tree of this log than the one that is submitted.

    Either another signer of the log is further, or the log lost what it had signed.
    """
