"""Settings of the server, read from the environment."""

from server.settings.environment import CLIENT_NAMES, KEY_ALIASES, PREFIX
from server.settings.sections.keys import LOG_ORIGIN
from server.settings.server_settings import (
    EMBEDDED_CONNECTIONS_MAX,
    LOGIN_URLS,
    SECTIONS,
    SettingDoc,
    Settings,
    SettingsError,
    documented,
)

__all__ = [
    "CLIENT_NAMES",
    "EMBEDDED_CONNECTIONS_MAX",
    "KEY_ALIASES",
    "LOGIN_URLS",
    "LOG_ORIGIN",
    "PREFIX",
    "SECTIONS",
    "SettingDoc",
    "Settings",
    "SettingsError",
    "documented",
]
