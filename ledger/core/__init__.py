"""What turns storage and formats into a ledger: the sequencer and full verification."""
