"""The command line `quire`."""
