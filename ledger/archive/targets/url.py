"""Opens a target by its URL: `file:///folder` or `s3://bucket/prefix`, with `?lock=none`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urlsplit

from ledger.archive.targets.folder import FolderTarget
from ledger.archive.targets.objects import Target, TargetSettings, checked_key
from ledger.errors import ArchiveMisconfigured

URL_CHARS_MAX = 1_000
PREFIX_CHARS_MAX = 300
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_FORMS = "file:///folder, s3://bucket/prefix or s3://bucket/prefix?lock=none"


def open_target(url: str, settings: TargetSettings | None = None) -> Target:
    """The target of a URL, not yet connected or checked.

    `file:///folder` is a folder, which nothing locks. `s3://bucket/prefix` is object storage
    with Object Lock; `?lock=none` declares it unlocked. Raises ArchiveMisconfigured.
    """
    parts = _split(url)
    locked = _declared_locked(parts)
    match parts.scheme:
        case "file":
            if locked:
                raise ArchiveMisconfigured(
                    f"{url}: nothing locks a folder; use ?lock=none or leave it out"
                )
            return FolderTarget(url, _folder(parts))
        case "s3":
            return _s3(parts, settings or TargetSettings(), locked=locked is not False)
        case _:
            raise ArchiveMisconfigured(f"{url!r} is no archive target; use {_FORMS}")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        credentials = parts.username or parts.password
        port = parts.port
    except ValueError as error:
        raise ArchiveMisconfigured(f"the archive target's URL can't be read: {error}") from error
    # Not repeated in the message: what stands there may be a password.
    if credentials or port or parts.fragment or len(url) > URL_CHARS_MAX:
        raise ArchiveMisconfigured(
            f"an archive target's URL has no user, password, port or fragment: {_FORMS}. "
            "Credentials belong in the AWS_* environment, a server's address in its endpoint"
        )
    return parts


def _declared_locked(parts: SplitResult) -> bool | None:
    """What `?lock=` says: True, False, or None without it."""
    match parts.query:
        case "":
            return None
        case "lock=none":
            return False
        case "lock=compliance":
            return True
        case _:
            raise ArchiveMisconfigured(
                f"?{parts.query}: an archive target knows ?lock=compliance and ?lock=none only"
            )


def _folder(parts: SplitResult) -> Path:
    path = os.fsdecode(unquote_to_bytes(parts.path))  # as as_uri() spelled it, in any locale
    folder = Path(path)
    if parts.netloc not in {"", "localhost"} or "\0" in path or not folder.is_absolute():
        raise ArchiveMisconfigured("a folder is named by its absolute path: file:///srv/archive")
    if ".." in folder.parts or folder == Path("/"):
        raise ArchiveMisconfigured(f"{folder} can't be an archive's folder; name one of its own")
    return folder


def _s3(parts: SplitResult, settings: TargetSettings, *, locked: bool) -> Target:
    if not _BUCKET.fullmatch(parts.netloc):
        raise ArchiveMisconfigured(f"{parts.netloc!r} is no bucket's name: s3://bucket/prefix")
    prefix = unquote(parts.path).strip("/")
    if prefix:
        checked_key(prefix)
    if len(prefix) > PREFIX_CHARS_MAX:
        raise ArchiveMisconfigured(f"an archive's prefix has {PREFIX_CHARS_MAX} characters at most")
    try:
        # Here, as it takes a third of a second and only the server extra brings the client.
        from ledger.archive.targets.s3 import S3Target  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ArchiveMisconfigured(
            "s3:// needs the server extra: pip install 'quire-ledger[server]'"
        ) from error
    return S3Target(parts.geturl(), parts.netloc, prefix, settings, locked=locked)
