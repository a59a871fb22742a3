"""Settings of the server, read from the environment."""

from server.settings.server_settings import (
    CLIENT_NAMES,
    EMBEDDED_CONNECTIONS_MAX,
    KEY_ALIASES,
    LOG_ORIGIN,
    PREFIX,
    SettingDoc,
    Settings,
    SettingsError,
    documented,
)

__all__ = [
    "CLIENT_NAMES",
    "EMBEDDED_CONNECTIONS_MAX",
    "KEY_ALIASES",
    "LOG_ORIGIN",
    "PREFIX",
    "SettingDoc",
    "Settings",
    "SettingsError",
    "documented",
]
