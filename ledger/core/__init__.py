"""The ledger's core, on storage and formats: appending, signing, proving, reading, verifying."""
