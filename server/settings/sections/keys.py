"""The keys of the server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

LOG_ORIGIN = r"^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[A-Za-z0-9._~-]+)*\Z"


@dataclass(frozen=True, kw_only=True, repr=False)
class KeySettings:
    """Where the keys are."""

    audit_secret_key: Annotated[
        str | None,
        Meta(
            description="Key that signs entries, at least 32 bytes",
            extra={"secret": True, "any_bytes": True},
        ),
    ] = None
    signing_keyring: Annotated[
        Path | None,
        Meta(description="File of the signing keys; none: signing-keys.json in the data directory"),
    ] = None
    master_key: Annotated[
        str | None,
        Meta(
            description="Key that wraps the sealing keys, 32 bytes as hex or base64; "
            "none: master.key in the data directory",
            extra={"secret": True},
        ),
    ] = None
    log_origin: Annotated[
        Annotated[str, Meta(pattern=LOG_ORIGIN, max_length=180)] | None,
        Meta(
            description="Name of the server's signed logs, a URL without scheme, which can't be "
            "changed later; none: the name in the log keys, or quire.local/ and 8 digits in new ones",
            extra={
                "secret": False,
                "form": (
                    "the name of a log: a host name in lower case with an optional port and path, "
                    "such as logs.example.com/quire, at most 180 characters"
                ),
            },
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
        str | None,
        Meta(
            description="Content of the file QUIRE_LOG_KEYS, instead of the file",
            extra={"secret": True, "any_bytes": True},
        ),
    ] = None
