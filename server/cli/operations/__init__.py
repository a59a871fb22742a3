"""Commands for operators: run, migrate, settings, retention, witness."""
