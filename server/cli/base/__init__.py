"""Shared by all commands: groups, output, arguments, the connection to a server."""
