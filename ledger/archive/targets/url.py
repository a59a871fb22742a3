"""Opens a target by its URL: `file:///folder`, `s3://bucket/prefix`, either with `?lock=none`."""

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
    """Return the target of a URL, not yet connected or checked.

    `file:///folder` is a folder, which has no locks. `s3://bucket/prefix` is object storage
    with Object Lock; `?lock=none` declares it unlocked. Raises ArchiveMisconfigured.
    """
    parts = _split(url)
    locked = _declared_locked(parts)
    match parts.scheme:
        case "file":
            if locked:
                raise ArchiveMisconfigured(
                    f"{url}: a folder can't lock objects; use ?lock=none or leave ?lock out"
                )
            return FolderTarget(url, _folder(parts))
        case "s3":
            return _s3(parts, settings or TargetSettings(), locked=locked is not False)
        case _:
            raise ArchiveMisconfigured(f"{url!r} is not an archive target; use {_FORMS}")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        credentials = parts.username or parts.password
        port = parts.port
    except ValueError as error:
        raise ArchiveMisconfigured(f"the archive target's URL can't be read: {error}") from error
    # The message does not repeat the URL, which may hold a password.
    if credentials or port or parts.fragment or len(url) > URL_CHARS_MAX:
        raise ArchiveMisconfigured(
            "the archive target's URL must have no user, password, port or fragment, and at most "
            f"{URL_CHARS_MAX} characters: {_FORMS}. Set credentials in the AWS_* environment "
            "variables, and a server's address in QUIRE_ARCHIVE_S3_ENDPOINT"
        )
    return parts


def _declared_locked(parts: SplitResult) -> bool | None:
    """Return the value of `?lock=`: True, False, or None without it."""
    match parts.query:
        case "":
            return None
        case "lock=none":
            return False
        case "lock=compliance":
            return True
        case _:
            raise ArchiveMisconfigured(
                f"?{parts.query}: an archive target takes only ?lock=compliance or ?lock=none"
            )


def _folder(parts: SplitResult) -> Path:
    path = os.fsdecode(unquote_to_bytes(parts.path))  # the inverse of as_uri(), in any locale
    folder = Path(path)
    if parts.netloc not in {"", "localhost"} or "\0" in path or not folder.is_absolute():
        raise ArchiveMisconfigured("give a folder by its absolute path: file:///srv/archive")
    if ".." in folder.parts or folder == Path("/"):
        raise ArchiveMisconfigured(f"{folder} can't hold an archive; name a folder only for it")
    return folder


def _s3(parts: SplitResult, settings: TargetSettings, *, locked: bool) -> Target:
    if not _BUCKET.fullmatch(parts.netloc):
        raise ArchiveMisconfigured(
            f"{parts.netloc!r} is not a bucket's name; use s3://bucket/prefix"
        )
    prefix = unquote(parts.path).strip("/")
    if prefix:
        checked_key(prefix)
    if len(prefix) > PREFIX_CHARS_MAX:
        raise ArchiveMisconfigured(
            f"an archive's prefix must have at most {PREFIX_CHARS_MAX} characters"
        )
    try:
        # Imported here: it takes a third of a second, and only the server extra has the client.
        from ledger.archive.targets.s3 import S3Target  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ArchiveMisconfigured(
            "s3:// needs the server extra: pip install 'quire-ledger[server]'"
        ) from error
    return S3Target(parts.geturl(), parts.netloc, prefix, settings, locked=locked)
