"""The bundles of this release, as files that every later verifier must read and judge alike.

``python -m tests.support.bundle_corpus`` rewrites ``tests/vectors/bundles``: the bundles, an
auditor's files of trust, and ``expected.json``. Files of a released version are never rewritten;
a later format gets a folder of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ledger.evidence import members
from ledger.evidence.trust import Trust
from ledger.log_keys import KeySeeds, parse_trust, rotate
from ledger.policy import parse_policy
from ledger.timestamp import granted, query
from tests.support.evidence import (
    PINS,
    WITNESS,
    Scene,
    forge,
    judge,
    members_of,
    payload_line,
    scene,
)
from tests.support.signing import log_keys
from tests.support.timestamp_authority import running_authority
from tests.support.trails import NOW_US

FOLDER: Final = Path(__file__).parent.parent / "vectors" / "bundles"
SERVED: Final = FOLDER / "served"
"""Made by a complete server, with its page; :func:`write` does not change it."""
POLICY: Final = f"witness w1 {WITNESS.vkey()}\nquorum w1\n".encode()
LARGE: Final = 1_200
"""More entries than a batch has."""


def trust(folder: Path = FOLDER) -> Trust:
    """The trust for a folder's bundles, from the three files of trust beside them."""
    pins = parse_trust((folder / "keys.json").read_bytes())
    policy = parse_policy((folder / "policy").read_bytes())
    return Trust(pins, policy, (folder / "tsa-ca.pem").read_bytes())


def bundles(stamp: object) -> Iterator[tuple[str, bytes]]:
    """Every bundle of the corpus with its file name."""
    assert callable(stamp)

    def made(length: int = 12, **changes: object) -> Scene:
        return scene(length, **changes).stamped(stamp)  # type: ignore[arg-type]

    rotated = rotate(log_keys(), KeySeeds(b"\x21" * 32, b"\x22" * 32), NOW_US + 1)
    sealed, plain = made(), made(sealed=False)
    yield "sealed", sealed.bundle()
    yield "plain", plain.bundle()
    yield "withheld", plain.bundle(line=lambda entry: payload_line(entry, "withheld"))
    yield "one-entry", sealed.bundle([7])
    yield "gaps", sealed.bundle([0, 3, 4, 9])
    yield "two-batches", made(LARGE).bundle(range(100, 1_150))
    yield "rotated-keys", made(keys=rotated).bundle()
    yield "without-proofs", sealed.bundle(proofs=False)
    yield "without-payloads", sealed.bundle(payloads=False)
    yield "without-anchor", scene(anchored=False).bundle()
    yield "without-witnesses", made(witnesses=()).bundle()
    yield "unknown-keys", made(keys=log_keys(2)).bundle()
    yield from _forged(sealed)


def _forged(sealed: Scene) -> Iterator[tuple[str, bytes]]:
    good = sealed.bundle()
    held = members_of(good)
    leaves, payloads = held[members.leaves(0)], held[members.payloads(0)]
    one, two = members.proof(3), members.proof(4)
    yield "damaged", good.replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    yield "cut", good[: len(good) // 2]
    edited = leaves.replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    yield "forged-leaf", forge(good, {members.leaves(0): edited})
    swapped = payloads.splitlines(keepends=True)
    swapped[3], swapped[4] = swapped[4], swapped[3]
    yield "forged-payloads", forge(good, {members.payloads(0): b"".join(swapped)})
    yield "forged-proofs", forge(good, {one: held[two], two: held[one]})
    other = scene(org="umbrella").note
    yield "forged-checkpoint", forge(good, {members.checkpoint_note(sealed.size): other})


def write() -> None:
    """Rewrite the corpus."""
    for path in FOLDER.glob("*.zip"):
        path.unlink()
    (FOLDER / "keys.json").write_bytes(PINS.pins.document() if PINS.pins else b"")
    (FOLDER / "policy").write_bytes(POLICY)
    expected = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_authority(Path(folder) / "authority") as authority,
    ):
        (FOLDER / "tsa-ca.pem").write_bytes(authority.ca_pem)
        for name, data in bundles(lambda note: granted(authority.reply(query(note, 7)))):
            (FOLDER / f"{name}.zip").write_bytes(data)
            verdict = judge(data, trust())
            expected[name] = {"outcome": verdict.outcome, "checks": verdict.answers()}
    text = msgspec.json.format(msgspec.json.encode(expected), indent=1)
    (FOLDER / "expected.json").write_bytes(text + b"\n")


if __name__ == "__main__":
    write()
