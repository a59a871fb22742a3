"""What stands in front of the ledger: HTTP, command line, embedded database."""
