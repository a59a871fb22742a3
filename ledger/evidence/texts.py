"""The two members of every bundle that a person reads; their bytes never vary."""

from __future__ import annotations

from typing import Final

README: Final = b"""\
WHAT THIS IS

This file is evidence: records taken from an audit trail, together with what
proves that they are in it, unchanged, since a certain time. You need no access
to the system that made it, and no trust in that system, to check it.

HOW TO CHECK IT

With a browser, without installing anything:
    Open verify.html and drop this whole zip on it. Nothing leaves your
    computer. Whoever could forge the bundle could also forge the page that
    lies in it, so take the page from a place you trust if you can.

With Python 3.11 or newer, which checks more:
    pip install quire-ledger
    quire-verify BUNDLE.zip

Both show a table: what was checked, what holds, what does not and why, and what
could not be checked. The command ends with 0 if all holds, 1 if something is
wrong, 2 if the file can't be read, 3 if it holds only as far as it was checked.

WHOSE KEYS

Signatures are worth as much as the keys they are checked with. This bundle
brings the public keys of the log it is from (log-keys.json). They prove that all
is the work of one log, not whose log that is. If you were given the keys, or
their digests, in another way, check with them:
    quire-verify BUNDLE.zip --trust keys.json

WHAT IS IN IT

    STATEMENT.txt    what this bundle proves, and what it does not
    leaves/          the records: one line each, the exact bytes that are proved
    payloads/        what the records carry: open, sealed, or with the key that
                     opens this one and no other
    proofs/          for each record, the path to the signed checkpoint
    checkpoints/     the trail's state when it was signed
    anchors/         the log of all checkpoints: two signatures, timestamps,
                     and cosignatures of independent witnesses
    log-keys.json    the history of the keys that signed
    names.json       names of persons, where they were asked for
    manifest.json    the list of all files with their sizes and digests
"""

STATEMENT: Final = b"""\
WHAT THIS BUNDLE PROVES, IF IT VERIFIES

1. Integrity. Each record is, bit for bit, the one that the log's signed
   checkpoint commits to. Each payload that is in the bundle is the one that its
   record commits to; so is the text that a disclosed key opens it to.
2. Place. Each record stands at its number in the trail, and the trail up to the
   checkpoint can't be told in two ways under that one checkpoint. Records that
   follow one another here do so in the trail.
3. Time. Where an anchor with a timestamp is included, everything that leads to it
   existed when the timestamp was given. Its authority vouches for that time, and
   the log does not. Records state other times, which are the log's own word.
4. Signers. The checkpoint and the anchor were signed with the keys of the log,
   the anchor with Ed25519 and with ML-DSA-44. Witnesses, where some cosigned the
   anchor, saw the anchor log grow without ever being rewritten.

WHAT IT DOES NOT PROVE

1. That what a record says is true. It proves that it was recorded so, and then.
2. That the records here are all there are. Between two numbers that follow one
   another nothing is missing; what a search did not return, or what was
   never recorded, no bundle can show.
3. Whose keys these are. Get the keys, or pins of them, from the operator or an
   auditor in another way (quire-verify --trust).
4. Who the persons behind references are. names.json is what the server states;
   nothing in the trail commits to a name.
5. Why a payload can't be opened. That it was erased, sealed or withheld is what
   the server states. An erased record still proves its place.
6. What was asked for. The request in manifest.json is stated and not signed.
7. The operator's own signatures. Each record also carries one that only the
   operator's secret key can check; it is not part of a bundle.
"""
