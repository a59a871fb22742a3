"""Settings: read from the environment (`QUIRE_*`), overridden by command-line options.

A setting of the wrong form, out of bounds or with an unknown name stops the start with a message
that names it. Values never appear in messages or in `repr`: some are keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

import msgspec

from server.addresses import networks
from server.refusal import StartupRefused
from server.settings import environment
from server.settings.section import settings_of
from server.settings.sections.archive import ArchiveSettings
from server.settings.sections.connections import ConnectionSettings
from server.settings.sections.database import DatabaseSettings
from server.settings.sections.keys import KeySettings
from server.settings.sections.serving import (
    EdgeSettings,
    ListeningSettings,
    RunningSettings,
)
from server.settings.sections.signing import AttestationSettings, SigningSettings
from server.settings.sections.trails import (
    AppendSettings,
    BundleSettings,
    RecordingSettings,
    TimeSettings,
)

LOGIN_URLS: Final = ("database_owner_url", "database_signer_url", "database_retention_url")
"""The settings of logins that may do what the server's role may not."""
EMBEDDED_CONNECTIONS_MAX = 180  # of PostgreSQL's 200; the rest is for operators and migrations
T = TypeVar("T")


class SettingsError(StartupRefused):
    """Settings are unknown, malformed or out of bounds; the message names all of them."""


class SettingDoc(NamedTuple):
    """One row of the settings table in the documentation."""

    name: str
    default: str
    description: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings(
    ListeningSettings,
    EdgeSettings,
    ConnectionSettings,
    DatabaseSettings,
    KeySettings,
    SigningSettings,
    AttestationSettings,
    ArchiveSettings,
    AppendSettings,
    RecordingSettings,
    BundleSettings,
    TimeSettings,
    RunningSettings,
):
    """All settings of the server, checked: the sections of Quire and those of added domains."""

    added: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the sections that domains add, by field name; read with :meth:`of`."""

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str],
        overrides: Mapping[str, object] | None = None,
        added: Sequence[type] = (),
    ) -> Self:
        """Read settings from an environment; an override (by field name) that is not None wins.

        An empty variable counts as not set, because `${NAME:-}` in a compose file makes a missing
        variable empty. ``added`` are the sections that domains add. Raises SettingsError with all
        problems found.
        """
        values, problems = environment.read(
            environ, overrides or {}, settings_of((*SECTIONS, *added))
        )
        if not problems:
            own = {name: value for name, value in values.items() if name in _OWN}
            more = {name: value for name, value in values.items() if name not in _OWN}
            settings = cls(**own, added=more)
            problems = settings._contradictions()
            if not problems:
                return settings
        raise SettingsError("\n".join(problems))

    def of(self, section: type[T]) -> T:
        """Return the settings of a section that a domain adds."""
        return msgspec.convert(
            {name: self.added[name] for name in settings_of([section]) if name in self.added},
            section,
            dec_hook=lambda kind, value: kind(value),
        )

    @property
    def embedded(self) -> bool:
        """True if the server starts its own PostgreSQL."""
        return self.database_url is None

    @property
    def signing_keyring_path(self) -> Path:
        return self.signing_keyring or self.data_dir / "signing-keys.json"

    @property
    def master_key_path(self) -> Path:
        return self.data_dir / "master.key"

    @property
    def log_keys_path(self) -> Path:
        return self.log_keys or self.data_dir / "log-keys.json"

    @property
    def owner_url_setting(self) -> str:
        """The name of the setting that holds the URL of the owner's role."""
        return "QUIRE_DATABASE_OWNER_URL" if self.database_owner_url else "QUIRE_DATABASE_URL"

    def without_logins(self) -> Self:
        """Return the settings for a process that needs none of the other logins."""
        return replace(
            self, database_owner_url=None, database_signer_url=None, database_retention_url=None
        )

    @property
    def _declared_unlocked(self) -> bool:
        return (self.archive_url or "").endswith("?lock=none")

    @property
    def archive_target(self) -> str | None:
        """URL of the target that trails are archived in; None if nothing is archived."""
        if self.archive_url == "off" or (self.archive_url is None and not self.embedded):
            return None
        return self.archive_url or (self.data_dir / "archive").absolute().as_uri()

    def __repr__(self) -> str:
        shown = (
            f"{name}=***" if setting.secret and value is not None else f"{name}={value!r}"
            for name, setting in _OWN.items()
            for value in [getattr(self, name)]
        )
        return f"Settings({', '.join(shown)})"

    def _contradictions(self) -> list[str]:
        problems = [*self._login_contradictions(), *self._edge_contradictions()]
        if self.tsa_url is not None and self.tsa_ca is None:
            problems.append(
                "QUIRE_TSA_URL is set, but QUIRE_TSA_CA is not: name the PEM file of the "
                "authority's CA certificates."
            )
        if self.log_keys is not None and self.log_signing_keys is not None:
            problems.append("QUIRE_LOG_KEYS and QUIRE_LOG_SIGNING_KEYS are both set: use one.")
        if (self.archive_url or "").startswith("s3://") and not (
            self.archive_retain_days or self.archive_legal_hold or self._declared_unlocked
        ):
            problems.append(
                "QUIRE_ARCHIVE_URL is a bucket, whose objects are to be locked: set "
                "QUIRE_ARCHIVE_RETAIN_DAYS or QUIRE_ARCHIVE_LEGAL_HOLD, or end the URL in "
                "?lock=none to store them without a lock."
            )
        if self.retention_months is not None:
            if self.archive_target is None:
                problems.append(
                    "QUIRE_RETENTION_MONTHS is set, but nothing is archived: set QUIRE_ARCHIVE_URL."
                )
            if self.idempotency_days > self.retention_months * 28:
                problems.append(
                    f"QUIRE_IDEMPOTENCY_DAYS ({self.idempotency_days}) is more than "
                    f"QUIRE_RETENTION_MONTHS ({self.retention_months}): a repeated request could "
                    "not get its first answer. Lower the days, or keep more months."
                )
        if self.queue_events < self.max_events:
            problems.append(
                f"QUIRE_QUEUE_EVENTS ({self.queue_events}) is less than QUIRE_MAX_EVENTS "
                f"({self.max_events}): a full request could never be accepted."
            )
        connections = self.workers * self.pool_size
        if self.embedded and connections > EMBEDDED_CONNECTIONS_MAX:
            problems.append(
                f"QUIRE_WORKERS * QUIRE_POOL_SIZE is {connections} connections; the embedded "
                f"PostgreSQL has {EMBEDDED_CONNECTIONS_MAX}. Lower one of them."
            )
        return problems

    def _edge_contradictions(self) -> list[str]:
        problems = []
        try:
            if any(found.prefixlen == 0 for found in networks(self.trusted_proxies)):
                problems.append(
                    "QUIRE_TRUSTED_PROXIES trusts every address: then every client could name any "
                    "address as its own. Give the ranges that your proxies connect from."
                )
        except ValueError as error:
            problems.append(f"QUIRE_TRUSTED_PROXIES: {error}.")
        try:
            networks(self.block_exempt)
        except ValueError as error:
            problems.append(f"QUIRE_BLOCK_EXEMPT: {error}.")
        if self.metrics_port == self.port:
            problems.append(
                f"QUIRE_METRICS_PORT and QUIRE_PORT are both {self.port}: the private listener "
                "needs a port of its own."
            )
        return problems

    def _login_contradictions(self) -> list[str]:
        problems = []
        if self.database_url is None:
            problems += [
                f"{environment.variable(name)} is set, but QUIRE_DATABASE_URL is not."
                for name in LOGIN_URLS
                if getattr(self, name) is not None
            ]
        if self.unsigned_limit_seconds < self.unsigned_event_seconds:
            problems.append(
                f"QUIRE_UNSIGNED_LIMIT_SECONDS ({self.unsigned_limit_seconds:g}) is less than "
                f"QUIRE_UNSIGNED_EVENT_SECONDS ({self.unsigned_event_seconds:g}): appends would stop "
                "before anybody is warned."
            )
        return problems


SECTIONS: Final[tuple[type, ...]] = Settings.__bases__
"""In the order of the documentation."""
_OWN: Final = settings_of(SECTIONS)


def documented(added: Sequence[type] = ()) -> list[SettingDoc]:
    """Return all settings with default and description, in the order of the documentation."""
    return [
        SettingDoc(
            environment.variable(name),
            "" if setting.default is None else str(setting.default),
            setting.description,
        )
        for name, setting in settings_of((*SECTIONS, *added)).items()
    ]
