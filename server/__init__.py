"""The server around the ledger: HTTP, command line, embedded database."""
