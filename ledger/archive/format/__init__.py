"""The format of archive objects: their keys, payload packs, record files and row decoding."""
