"""Evidence bundles: entries, proofs and keys in one file that proves itself offline.

``format`` and ``members`` define the contents of a bundle, ``writer`` writes one, ``reader``
parses one that may be hostile, ``verification`` judges it and ``cli`` is ``quire-verify``.
``docs/format.md`` describes the bytes.
"""
