"""The settings in force, as the server's own entries tell them: without the value of any secret."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from server.settings.environment import variable
from server.settings.section import Setting, settings_of
from server.settings.server_settings import SECTIONS, Settings

ToldValue = str | int | float | bool | None
SHOWN: Final = 200
"""Characters of a text that are told; of a longer one its size and digest follow."""
DIGEST_BYTES: Final = 16
_HAS_LOGIN: Final = re.compile(r"://[^/]*@|^https?://[^?#]*[?#]")
"""A URL with a user or a password, or with a query, which may be a token."""


class ToldSettings(NamedTuple):
    """Settings by the names of their variables.

    ``secrets`` has a keyed digest of each secret, None where it is not set: equal digests mean
    equal values, and nobody without the key can try values.
    """

    values: dict[str, ToldValue]
    secrets: dict[str, str | None]


def told_settings(settings: Settings, added: Iterable[type], key: bytes) -> ToldSettings:
    """Return the settings in force, with those of the sections that domains add.

    ``key`` is that of the digests.
    """
    told = ToldSettings({}, {})
    own = settings_of(SECTIONS)
    for name, setting in {**own, **settings_of(added)}.items():
        default = getattr(settings, name) if name in own else setting.default
        value = settings.added.get(name, default)
        if _is_secret(setting, value):
            told.secrets[variable(name)] = None if value is None else _digest(key, name, value)
        else:
            told.values[variable(name)] = _shown(key, name, value)
    return told


def _is_secret(setting: Setting, value: object) -> bool:
    return setting.secret or (isinstance(value, str) and _HAS_LOGIN.search(value) is not None)


def _shown(key: bytes, name: str, value: object) -> ToldValue:
    if isinstance(value, bool | int | float | None):
        return value
    text = os.fsencode(str(value)).decode("utf-8", "backslashreplace")
    if len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}… ({len(text):,} characters, digest {_digest(key, name, value)})"


def _digest(key: bytes, name: str, value: object) -> str:
    said = name.encode() + b"\0" + str(value).encode("utf-8", "surrogateescape")
    return hmac.digest(key, said, "sha256")[:DIGEST_BYTES].hex()
