"""Writes random QWED trails in each release's form, following docs/qwed.md alone.

It shares no code with the reader under test: it hashes and signs with the
standard library. A trail is a list of rows, a row a dict of its stored columns.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

FORMS: Final = ("admission", "caller", "current", "legacy")
"""The forms with twelve, eleven, nine and eight hashed fields."""
NEWER: Final = ("api_key_id", "verifier_version", "admission")
LEFT_OUT: Final = {
    "admission": (),
    "caller": ("admission",),
    "current": NEWER,
    "legacy": ("raw_llm_output", *NEWER),
}
NOT_HASHED: Final = ("id", "entry_hash", "hmac_signature")
LETTERS: Final = "abc 0189 <>'\"\\/=%,:{}[]\n\t äßé€≥日本\u2028\U0001f600"


def trail(random: Random, form: str, secret: bytes, *, unsigned: int = 0) -> list[dict[str, Any]]:
    """A chain of two to four rows of one form, after ``unsigned`` unsigned rows."""
    rows = [_row(random, number + 1, "legacy") for number in range(unsigned)]
    row_id, previous_hash = len(rows), None
    for _ in range(random.randint(2, 4)):
        row_id += random.randint(1, 3)  # rows of other organizations lie in between
        row = _row(random, row_id, form)
        row["previous_hash"] = previous_hash
        _seal(row, form, secret)
        previous_hash = row["entry_hash"]
        rows.append(row)
    return rows


def _row(random: Random, row_id: int, form: str) -> dict[str, Any]:
    moment = datetime(2026, 5, 8, tzinfo=UTC) + timedelta(
        seconds=row_id, microseconds=random.choice((0, 0, 450, random.randrange(10**6)))
    )
    result = {"status": _text(random), "value": _value(random), _text(random): [True, None]}
    row = {
        "id": row_id,
        "organization_id": 1,
        "user_id": random.choice((None, 7, 12_345)),
        "query": _text(random),
        "result": json.dumps(result, ensure_ascii=random.random() < 0.7),
        "is_verified": random.choice((0, 1)),
        "domain": random.choice(("MATH", "LOGIC", "VERIFICATION_CONTEXT")),
        "timestamp": moment.strftime("%Y-%m-%d %H:%M:%S.%f"),
        "entry_hash": None,
        "hmac_signature": None,
        "previous_hash": None,
        "raw_llm_output": random.choice((None, _text(random))),
        "api_key_id": random.choice((None, random.randrange(1, 1000))),
        "verifier_version": random.choice(("8.0.0", "8.0.1rc1")),
        "admission": random.choice((None, "ADMIT", "BLOCKED", "DENY")),
    }
    for column in LEFT_OUT[form]:
        row[column] = None
        if random.random() < 0.5:
            del row[column]  # an older release's table lacks this column
    return row


def _seal(row: dict[str, Any], form: str, secret: bytes) -> None:
    """Hash and sign the row as the form's release does."""
    left_out = (*NOT_HASHED, *LEFT_OUT[form])
    hashed = {name: value for name, value in row.items() if name not in left_out}
    hashed["result"] = json.loads(row["result"])
    hashed["is_verified"] = bool(row["is_verified"])
    moment = datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    # QWED hashed times without an offset until shortly before release 8.
    hashed["timestamp"] = moment.isoformat()
    if form in ("current", "legacy"):
        hashed["timestamp"] = moment.replace(tzinfo=None).isoformat()
    text = json.dumps(hashed, sort_keys=True)
    row["entry_hash"] = hashlib.sha256(text.encode("ascii")).hexdigest()
    row["hmac_signature"] = hmac.new(secret, row["entry_hash"].encode(), "sha256").hexdigest()


def _text(random: Random) -> str:
    return "".join(random.choices(LETTERS, k=random.randint(1, 12)))


def _value(random: Random) -> Any:
    return random.choice((0, -1, 81, 1e16, 1.5, 2**70, "x", [], {"b": 1, "a": {}}))
