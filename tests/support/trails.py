"""Strategies and small trails for tests of the formats."""

from collections.abc import Callable
from hashlib import sha256

from hypothesis import strategies as st

from ledger.chain import ChainHead, Draft, StoredEntry, extend, next_time_us
from ledger.entry import MAX_SEQ, Leaf, PayloadDigest, payload_digest, search_tag
from ledger.keys import SigningKey, SigningKeyring

ORG_ID = 7
ORG = "acme"
NOW_US = 1_767_268_800_000_000
KEY = SigningKey("k1", bytes(range(32)))
RING = SigningKeyring([KEY], ["k1"])

texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40)
maybe_texts = st.none() | texts
digests = st.builds(
    PayloadDigest,
    blake3=st.binary(min_size=32, max_size=32).map(bytes.hex),
    seal=maybe_texts,
    size=st.integers(0, 2**53 - 1),
)


@st.composite
def leaves(draw: st.DrawFn) -> Leaf:
    """Arbitrary leaves: null or text in each field, first and later entries."""
    seq = draw(st.just(0) | st.integers(1, MAX_SEQ))
    previous = None if seq == 0 else draw(st.binary(min_size=32, max_size=32)).hex()
    return Leaf(
        action=draw(maybe_texts),
        actor=draw(maybe_texts),
        anchored_at="2026-01-01T12:00:00.000000Z",
        data_classification=draw(maybe_texts),
        event_type=draw(maybe_texts),
        key=draw(texts),
        legal_basis=draw(maybe_texts),
        org=draw(texts),
        outcome=draw(maybe_texts),
        payload=draw(digests),
        previous_hash=previous,
        seq=seq,
        subject=draw(maybe_texts),
        timestamp=draw(maybe_texts),
    )


def draft(
    payload: bytes,
    actor: str | None = "ada",
    subject: str | None = None,
    *,
    event_type: str = "invoice.approved",
) -> Draft:
    """A draft of a plain event with these bytes."""
    return Draft(
        action="approve",
        actor=actor,
        data_classification=None,
        event_type=event_type,
        legal_basis=None,
        outcome="success",
        digest=payload_digest(payload, None),
        subject=subject,
        timestamp="2026-01-01T12:00:00Z",
        actor_tag=search_tag(actor),
        subject_tag=search_tag(subject),
        payload=payload,
    )


def trail(
    length: int, head: ChainHead, key: SigningKey = KEY, *, commit: int | None = None
) -> tuple[list[StoredEntry], ChainHead]:
    """``length`` rows that all differ, after ``head``, and the head after them.

    ``commit``: the number of entries in each commit, by default all.
    """
    payloads = [sha256(b"%d" % n).hexdigest().encode() for n in range(length)]
    drafts = [draft(payload, subject="ü") for payload in payloads]
    rows: list[StoredEntry] = []
    for start in range(0, length, commit or max(length, 1)):
        some, at_us = drafts[start : start + (commit or length)], next_time_us(NOW_US, head)
        made, head = extend(ORG_ID, ORG, head, some, at_us, key)
        rows += made
    return rows, head


def flips(data: bytes) -> list[bytes]:
    """Every single-bit change of the bytes."""
    return [
        data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]
        for place in range(len(data))
        for bit in range(8)
    ]


def raises_only(expected: type[Exception], read: Callable[[], object]) -> None:
    """Call a parser and swallow the expected error; any other error propagates."""
    try:
        read()
    except expected:
        return
