"""Evidence bundles: entries, proofs and keys in one file that proves itself offline.

``format`` and ``members`` say what a bundle holds, ``writer`` makes one,
``reader`` takes one apart that may be hostile, ``verification`` judges it and
``cli`` is ``quire-verify``. ``docs/format.md`` describes the bytes.
"""
