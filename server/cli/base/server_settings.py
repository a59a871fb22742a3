"""The settings of the server, for commands that work beside it."""

import os
from collections.abc import Mapping

from server.app.features import FEATURES
from server.feature import added_settings
from server.settings import Settings


def read_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Read the settings from the environment and the options. Raises SettingsError."""
    return Settings.from_env(os.environ, overrides, added_settings(FEATURES))
