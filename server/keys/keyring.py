"""The signing keys of a running server, read again when the keyring file changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from ledger.core.lasting import Lasting
from ledger.errors import QuireError
from ledger.keys import SigningKeyring
from server.keys.first_start import load_secrets
from server.keys.own_keys import require_same_ring
from server.refusal import StartupRefused
from server.settings import Settings

log = structlog.get_logger("quire")

POLL_INTERVAL_S: Final = 1.0


class LiveKeyring:
    """Call it for the keys; it checks the file for changes once a second, or on ``refresh``.

    A file that can't be read, is not a valid keyring, or is the keyring of another database
    changes nothing: the keys read before stay in use, and the reason is logged.
    """

    def __init__(
        self, settings: Settings, ring: SigningKeyring, load: Callable[[], SigningKeyring]
    ) -> None:
        self._path = settings.signing_keyring_path
        self._ring = ring
        self._load = load
        self._unreadable = Lasting(
            "the signing keyring can't be read; the keys read before stay in use",
            "the signing keyring can be read again",
            quiet_s=0,
        )
        self._stamp = self._file_stamp()
        self._checked_s = time.monotonic()

    @classmethod
    def of(cls, settings: Settings, ring: SigningKeyring | None = None) -> LiveKeyring:
        """Return the keys that the settings name; ``ring`` if they were read just now.

        Raises StartupRefused, KeyringError.
        """

        def load() -> SigningKeyring:
            return load_secrets(settings, database_is_new=False).keyring

        return cls(settings, load() if ring is None else ring, load)

    def __call__(self, refresh: bool) -> SigningKeyring:
        """Return the keys; check the file first if ``refresh`` is set or a check is due."""
        now = time.monotonic()
        if refresh or now - self._checked_s > POLL_INTERVAL_S:
            self._checked_s = now
            stamp = self._file_stamp()
            if stamp != self._stamp:
                self._read(stamp)
        return self._ring

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self, stamp: tuple[int, int, int] | None) -> None:
        try:
            ring = self._load()
            require_same_ring(self._ring, ring)
        except (QuireError, StartupRefused) as error:
            self._unreadable.failed(log.error, str(error))
            return
        self._unreadable.fine()
        self._stamp = stamp
        missing = set(self._ring.ids()) - set(ring.ids())
        if missing:
            log.warning(
                "signing keys were removed from the keyring; their entries no longer verify",
                keys=sorted(missing),
            )
        if ring.active.key_id != self._ring.active.key_id:
            log.info("another signing key is active", key=ring.active.key_id)
        self._ring = ring
