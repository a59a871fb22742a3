"""The signing keys of a running server, read anew when the keyring file changes."""

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
    """Call with ``refresh`` to read the file anew if it changed; at most once a second otherwise.

    A file that can't be read, holds no valid keyring, or that of another database
    changes nothing: the keys read before stay in use, and the log says why.
    """

    def __init__(
        self, settings: Settings, ring: SigningKeyring, load: Callable[[], SigningKeyring]
    ) -> None:
        self._path = settings.signing_keyring_path
        self._ring = ring
        self._load = load
        self._unreadable = Lasting(
            "the signing keyring can't be read; the keys in use stay",
            "the signing keyring can be read again",
            quiet_s=0,
        )
        self._stamp = self._look()
        self._looked = time.monotonic()

    @classmethod
    def of(cls, settings: Settings, ring: SigningKeyring | None = None) -> LiveKeyring:
        """The keys that the settings name; ``ring`` where they were read a moment ago.

        Raises StartupRefused, KeyringError.
        """

        def load() -> SigningKeyring:
            return load_secrets(settings, database_is_new=False).keyring

        return cls(settings, load() if ring is None else ring, load)

    def __call__(self, refresh: bool) -> SigningKeyring:
        """The keys, looked up anew when asked or due."""
        now = time.monotonic()
        if refresh or now - self._looked > POLL_INTERVAL_S:
            self._looked = now
            stamp = self._look()
            if stamp != self._stamp:
                self._read(stamp)
        return self._ring

    def _look(self) -> tuple[int, int, int] | None:
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
                "signing keys left the keyring; their entries no longer verify",
                keys=sorted(missing),
            )
        if ring.active.key_id != self._ring.active.key_id:
            log.info("another signing key is active", key=ring.active.key_id)
        self._ring = ring
