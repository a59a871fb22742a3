"""What the server records of reads, refusals, verifications and bundles, in batches."""
