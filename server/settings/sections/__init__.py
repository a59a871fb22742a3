"""The sections of the settings, one module per domain."""
