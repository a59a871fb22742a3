"""What all commands share: groups, output, arguments, the connection to a server."""
