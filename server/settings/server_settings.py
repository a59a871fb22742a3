"""Settings: read from the environment (`QUIRE_*`), overridden by command-line options.

A setting of the wrong form, out of bounds or with an unknown name stops the start with a message
that names it. Values never appear in messages or in `repr`: some are keys.
"""

import difflib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import msgspec
from msgspec import Meta

from server.refusal import StartupRefused
from server.settings.service_links import has_the_name_of_a_link, service_links
from server.settings.values import BadValue, read_value

_log = logging.getLogger(__name__)

PREFIX = "QUIRE_"
KEY_ALIASES = ("AUDIT_SECRET_KEY", "QWED_AUDIT_SECRET_KEY")
CLIENT_NAMES = frozenset({"QUIRE_URL", "QUIRE_API_KEY", "QUIRE_DEBUG"})  # of the commands only
EMBEDDED_CONNECTIONS_MAX = 180  # of PostgreSQL's 200; the rest is for operators and migrations
_SECRET_FIELDS = frozenset(
    {
        "audit_secret_key",
        "master_key",
        "log_signing_keys",
        "database_url",
        "database_owner_url",
        "tsa_url",
    }
)
_POSTGRES_URL = r"^postgres(ql)?://"
LOG_ORIGIN = r"^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[A-Za-z0-9._~-]+)*\Z"


class SettingsError(StartupRefused):
    """A setting is unknown, malformed or out of bounds; the message names every one that is."""


class SettingDoc(NamedTuple):
    """One row of the settings table in the documentation."""

    name: str
    default: str
    description: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of the server, checked. The environment name is `QUIRE_` + the field's name."""

    host: Annotated[str, Meta(min_length=1, description="Address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port to listen on")] = 8080
    workers: Annotated[int, Meta(ge=1, le=64, description="Server processes")] = 1
    data_dir: Annotated[
        Path, Meta(description="Directory of the keys and the embedded PostgreSQL")
    ] = Path(".quire")
    database_url: Annotated[
        Annotated[str, Meta(pattern=_POSTGRES_URL)] | None,
        Meta(description="PostgreSQL of the server's role; none: the embedded one is started"),
    ] = None
    database_owner_url: Annotated[
        Annotated[str, Meta(pattern=_POSTGRES_URL)] | None,
        Meta(
            description="PostgreSQL of the owner's role, for migrations; none: QUIRE_DATABASE_URL"
        ),
    ] = None
    audit_secret_key: Annotated[
        str | None, Meta(description="Key that signs entries, at least 32 bytes")
    ] = None
    signing_keyring: Annotated[
        Path | None,
        Meta(description="File of the signing keys; none: signing-keys.json in the data directory"),
    ] = None
    master_key: Annotated[
        str | None,
        Meta(
            description="Key that wraps the sealing keys, 32 bytes as hex or base64; "
            "none: master.key in the data directory"
        ),
    ] = None
    log_origin: Annotated[
        Annotated[str, Meta(pattern=LOG_ORIGIN, max_length=180)] | None,
        Meta(
            description="Name of the server's signed logs, a URL without scheme, for ever; "
            "none: what the log keys say, or quire.local/ and 8 digits when they are made"
        ),
    ] = None
    log_keys: Annotated[
        Path | None,
        Meta(
            description="File of the keys that sign checkpoints and anchors; "
            "none: log-keys.json in the data directory"
        ),
    ] = None
    log_signing_keys: Annotated[
        str | None, Meta(description="Content of that file instead of the file")
    ] = None
    checkpoints: Annotated[
        bool, Meta(description="Sign checkpoints and anchors; false: another server does")
    ] = True
    checkpoint_seconds: Annotated[
        float, Meta(ge=0.05, le=3600, description="Seconds between rounds of checkpoints")
    ] = 1.0
    checkpoint_idle_seconds: Annotated[
        float,
        Meta(
            ge=60,
            le=31_536_000,
            description="Seconds after which the newest checkpoint of an idle org is anchored again",
        ),
    ] = 86_400.0
    anchor_seconds: Annotated[
        float, Meta(ge=0.05, le=86_400, description="Seconds between anchors")
    ] = 10.0
    signing_limit_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=2_592_000,
            description="Seconds that an entry may wait to be signed, anchored, timestamped and "
            "cosigned, over the time that each of these takes, before verifications are incomplete",
        ),
    ] = 300.0
    tsa_url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://")] | None,
        Meta(description="RFC 3161 authority that timestamps anchors; none: no timestamps"),
    ] = None
    tsa_ca: Annotated[
        Path | None,
        Meta(description="PEM file of the certificates that timestamps are trusted by"),
    ] = None
    tsa_policy: Annotated[
        Annotated[str, Meta(pattern=r"^[0-2](\.(0|[1-9][0-9]*))+$")] | None,
        Meta(description="Policy to ask the authority for, an OID; none: its own"),
    ] = None
    tsa_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="Least seconds between timestamps of anchors")
    ] = 60.0
    tsa_renew_days: Annotated[
        int,
        Meta(ge=1, le=36_500, description="Days after which an anchor's timestamp is renewed"),
    ] = 300
    witness_policy: Annotated[
        Path | None,
        Meta(
            description="tlog-policy file of the witnesses that cosign anchors, with their URLs; "
            "none: no witnesses"
        ),
    ] = None
    archive_url: Annotated[
        Annotated[str, Meta(pattern=r"^((file|s3)://.+|off)$", max_length=1_000)] | None,
        Meta(
            description="Where trails are archived: file:///folder, s3://bucket/prefix, or off; "
            "none: archive in the data directory of the embedded database, off with another"
        ),
    ] = None
    archive_seconds: Annotated[
        float,
        Meta(ge=0.05, le=604_800, description="Least seconds between archivings of one org"),
    ] = 60.0
    archive_retain_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="Days for which a bucket locks each object (COMPLIANCE: nobody can lift it)",
        ),
    ] = 0
    archive_legal_hold: Annotated[
        bool, Meta(description="Put each object of a bucket under legal hold")
    ] = False
    archive_s3_endpoint: Annotated[
        Annotated[str, Meta(pattern=r"^https?://")] | None,
        Meta(description="Object storage server of s3://; none: AWS_ENDPOINT_URL_S3, or Amazon's"),
    ] = None
    retention_months: Annotated[
        Annotated[int, Meta(ge=1, le=1_200)] | None,
        Meta(
            description="Months that entries stay in the database after the month they are of, "
            "once they are archived; none: for ever"
        ),
    ] = None
    retention_unlocked: Annotated[
        bool,
        Meta(
            description="Let months leave the database for an archive that nothing locks (a "
            "folder, ?lock=none): the only copy can then be deleted"
        ),
    ] = False
    max_events: Annotated[
        int, Meta(ge=1, le=100_000, description="Events in one append request")
    ] = 10_000
    max_body_bytes: Annotated[
        int, Meta(ge=1024, le=1 << 30, description="Bytes of one request body")
    ] = 16 << 20
    max_payload_bytes: Annotated[
        int, Meta(ge=1, le=64 << 20, description="Bytes of one event's payload")
    ] = 1 << 20
    queue_events: Annotated[
        int,
        Meta(ge=1, le=10_000_000, description="Events that may wait per org before 429"),
    ] = 50_000
    max_bundle_entries: Annotated[
        int, Meta(ge=1, le=200_000, description="Entries in one evidence bundle")
    ] = 100_000
    bundles_at_once: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Evidence bundles that one server process makes at once, half of them at "
            "most for one org",
        ),
    ] = 4
    bundle_wait_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=300,
            description="Seconds that a bundle waits until its newest entry is signed and anchored",
        ),
    ] = 15.0
    idempotency_days: Annotated[
        int, Meta(ge=1, le=365, description="Days for which idempotency keys are remembered")
    ] = 7
    clock_tolerance_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3_600,
            description="Seconds by which the wall clock may be off before appends wait",
        ),
    ] = 5.0
    clock_hold_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="Seconds for which a clock that leapt must be steady before it is believed",
        ),
    ] = 300.0
    shutdown_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds for open requests to finish at shutdown")
    ] = 30
    pool_size: Annotated[
        int, Meta(ge=2, le=1000, description="Database connections of one server process")
    ] = 10
    add_org: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] | None,
        Meta(
            description="Org to whose log raw bytes may be added, by anybody where it is public: "
            "for load tests; none: nowhere"
        ),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        Meta(description="Least level that is logged"),
    ] = "info"
    log_format: Annotated[
        Literal["console", "json"], Meta(description="Form of the log lines: console or json")
    ] = "console"

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
    ) -> Self:
        """Settings from an environment; an override (by field name) that is not None wins.

        An empty variable counts as not set, which is what `${NAME:-}` in a compose file makes of
        a missing one. Raises SettingsError with every problem found.
        """
        environ = _without_links(environ)
        problems = _unknown_names(environ)
        given = _from_environment(environ)
        given |= {name: value for name, value in (overrides or {}).items() if value is not None}
        values = {name: _convert(name, value, problems) for name, value in given.items()}
        if not problems:
            settings = cls(**values)
            problems = settings._contradictions()
            if not problems:
                return settings
        raise SettingsError("\n".join(problems))

    @property
    def embedded(self) -> bool:
        """Whether the server starts its own PostgreSQL."""
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
        """The setting that has the URL of the owner's role."""
        return "QUIRE_DATABASE_OWNER_URL" if self.database_owner_url else "QUIRE_DATABASE_URL"

    @property
    def _declared_unlocked(self) -> bool:
        return (self.archive_url or "").endswith("?lock=none")

    @property
    def archive_target(self) -> str | None:
        """URL of the target that trails are archived in, or None."""
        if self.archive_url == "off" or (self.archive_url is None and not self.embedded):
            return None
        return self.archive_url or (self.data_dir / "archive").absolute().as_uri()

    def __repr__(self) -> str:
        shown = (
            f"{name}=***" if name in _SECRET_FIELDS and value is not None else f"{name}={value!r}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"Settings({', '.join(shown)})"

    def _contradictions(self) -> list[str]:
        problems = []
        if self.tsa_url is not None and self.tsa_ca is None:
            problems.append(
                "QUIRE_TSA_URL is set, but QUIRE_TSA_CA is not: name the PEM file of the "
                "authority's CA certificates."
            )
        if self.database_owner_url is not None and self.database_url is None:
            problems.append("QUIRE_DATABASE_OWNER_URL is set, but QUIRE_DATABASE_URL is not.")
        if self.log_keys is not None and self.log_signing_keys is not None:
            problems.append("QUIRE_LOG_KEYS and QUIRE_LOG_SIGNING_KEYS are both set: use one.")
        if (self.archive_url or "").startswith("s3://") and not (
            self.archive_retain_days or self.archive_legal_hold or self._declared_unlocked
        ):
            problems.append(
                "QUIRE_ARCHIVE_URL is a bucket that locks what is stored: set "
                "QUIRE_ARCHIVE_RETAIN_DAYS or QUIRE_ARCHIVE_LEGAL_HOLD, or end the URL in ?lock=none."
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
                    "not be answered as it was."
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


def documented() -> list[SettingDoc]:
    """Every setting with default and description, in the order of the documentation's table."""
    return [
        SettingDoc(_variable(name), _shown(field.default), _meta(field).description or "")
        for name, field in _FIELDS.items()
    ]


def _variable(field_name: str) -> str:
    return PREFIX + field_name.upper()


def _shown(default: object) -> str:
    return "" if default is None else str(default)


def _meta(field: msgspec.structs.FieldInfo) -> Meta:
    meta: Meta = field.type.__metadata__[0]
    return meta


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = [*map(_variable, _FIELDS), *sorted(CLIENT_NAMES)]
    problems = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f" Did you mean {near[0]}?" if near else ""
            if has_the_name_of_a_link(name):
                advice = (
                    " If Kubernetes put it there for a service of that name, set "
                    "enableServiceLinks: false on the pod, or rename the service."
                )
            problems.append(f"{name} is no setting of this version.{advice}")
    return problems


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    given: dict[str, object] = {
        name: environ[_variable(name)] for name in _FIELDS if environ.get(_variable(name))
    }
    for alias in KEY_ALIASES:
        if not environ.get(alias):
            continue
        if "audit_secret_key" in given:
            _log.warning("%s is set but not used: another name of this key came first", alias)
            continue
        _log.warning("%s is read as QUIRE_AUDIT_SECRET_KEY: please use that name", alias)
        given["audit_secret_key"] = environ[alias]
    return given


def _convert(name: str, value: object, problems: list[str]) -> Any:
    """The checked value of one field; a problem is added to the list instead of raised."""
    try:
        return read_value(name, _FIELDS[name].type, value)
    except BadValue as error:
        problems.append(f"{_variable(name)} ({_meta(_FIELDS[name]).description}): {error}.")
        return None


def _without_links(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what names services beside this one.

    A setting that a link shares its name with (QUIRE_PORT) stays where its value is one of it.
    """
    links = service_links(environ)
    for name, field in _FIELDS.items():
        variable = _variable(name)
        if variable in links:
            try:
                read_value(name, field.type, environ[variable])
            except BadValue:
                _log.warning(
                    "%s is a service link of the container's environment and is not used as the "
                    "setting; enableServiceLinks: false leaves it out of a pod",
                    variable,
                )
            else:
                links.discard(variable)
    return {name: value for name, value in environ.items() if name not in links}


_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
