"""The trust of this server in its own signed logs: its key file, settings, the signer's memory.

None of it comes from the database, because a verification compares the database with it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from ledger.checkpoint import SignedTreeHead
from ledger.core.checkpointing import MEMORY_FILE, log_of, recall
from ledger.core.verification.work.faults import VerificationFailed
from ledger.core.verification.work.trust import TrailTrust
from ledger.errors import QuireError
from ledger.log_keys import KeyPins, LogKeyHistory, history_of
from ledger.storage.trees import ANCHOR_LOG
from server.keys.first_start import read_private_file
from server.keys.own_keys import foreign_memory
from server.refusal import StartupRefused
from server.settings import Settings


class TrustSource:
    """Reads the files on each call, because keys rotate and the signer keeps signing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._first_key: str | None = None
        with contextlib.suppress(QuireError, StartupRefused, OSError):
            self._history()  # compared with the database when the process started

    def of(self, org_id: int, slug: str) -> TrailTrust | None:
        """Return the trust in an org's log; None before the first log key was made.

        Raises VerificationFailed if a file exists but can't be used.
        """
        settings = self._settings
        try:
            history = self._history()
            if history is None:
                return None
            self._require_own_memory(history)
            heads = recall(settings.data_dir / MEMORY_FILE, (org_id, ANCHOR_LOG))
            known = {log_id: [SignedTreeHead(*head)] for log_id, head in heads.items()}
            return TrailTrust.of(
                history,
                slug,
                trail=known.get(org_id, []),
                anchors=known.get(ANCHOR_LOG, []),
                authorities=_content(settings.tsa_ca),
                witnesses=_content(settings.witness_policy),
            )
        except OSError as error:
            reason = f"{error.filename} cannot be read: {error.strerror}"
            raise VerificationFailed(f"nothing can be verified: {reason}") from error
        except (QuireError, StartupRefused) as error:
            raise VerificationFailed(f"nothing can be verified: {error}") from error

    def statements(self) -> list[bytes]:
        """Return the stored form of each statement of the own log keys; none without readable keys.

        A file that can't be read is reported by the signer, and by each verification.
        """
        try:
            history = self._history()
        except (QuireError, StartupRefused, OSError):
            return []
        return [] if history is None else history.encoded_statements()

    def _history(self) -> LogKeyHistory | None:
        history = _history(self._settings)
        if history is None:
            return None
        first = history.keys[0].digest
        if self._first_key not in {None, first}:
            raise StartupRefused(
                f"{self._settings.log_keys_path} was replaced by the log keys of another database: "
                "restore the file from your backup"
            )
        self._first_key = first
        return history

    def _require_own_memory(self, history: LogKeyHistory) -> None:
        path = self._settings.data_dir / MEMORY_FILE
        if log_of(path) not in {None, history.keys[0].digest}:
            raise StartupRefused(foreign_memory(path))


def own_pins(settings: Settings) -> KeyPins | None:
    """Return pins of this machine's own log keys; None where it has no readable ones."""
    try:
        history = _history(settings)
    except (QuireError, StartupRefused, OSError):
        return None
    return None if history is None else history.pins()


def _history(settings: Settings) -> LogKeyHistory | None:
    if settings.log_signing_keys is not None:
        return history_of(settings.log_signing_keys.encode("utf-8", "surrogateescape"))
    content = read_private_file(settings.log_keys_path)
    return None if content is None else history_of(content)


def _content(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
