"""Clients that append over HTTP while servers are killed, and the checks afterwards."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

from ledger.chain import StoredEntry
from ledger.entry import decode_leaf

PAUSE_S = 0.02
PATIENCE_S = 120.0
REQUEST_TIMEOUT_S = 30
BATCH = 3
# Refusals that mean "not now" or "outcome unknown": sent again under the same key.
RETRYABLE = {429, 503}


@dataclass
class Ledger:
    """The answers that the clients received, by the names of their events."""

    acknowledged: dict[str, int] = field(default_factory=dict)  # name -> seq
    batches: list[list[str]] = field(default_factory=list)  # every request that was sent
    keyed: set[str] = field(default_factory=set)
    surprises: list[str] = field(default_factory=list)
    refusal: str = ""
    """The last failed request's error, or the last answer that asks for a retry."""

    def check(self, rows: Sequence[StoredEntry]) -> None:
        """Check that each acknowledged event is stored once at its seq, and that batches are whole."""
        assert not self.surprises, self.surprises[:3]
        names = [decode_leaf(row.leaf).action or "" for row in rows]
        found = Counter(names)
        lost = [name for name in self.acknowledged if name not in found]
        assert not lost, f"{len(lost)} acknowledged entries are lost: {lost[:3]}"
        twice = [name for name, times in found.items() if times > 1]
        assert not twice, f"{len(twice)} entries are stored twice: {twice[:3]}"
        for name, seq in self.acknowledged.items():
            assert names[seq] == name, f"{name} was acknowledged at seq {seq}"
        missing = self.keyed - found.keys()
        assert not missing, f"{len(missing)} events were retried until acknowledged: {missing}"
        places = {name: seq for seq, name in enumerate(names)}
        for batch in self.batches:
            seqs = [places[name] for name in batch if name in places]
            whole = list(range(seqs[0], seqs[0] + len(batch))) if seqs else []
            assert seqs == whole, f"half a batch, or one torn apart: {batch} at {seqs}"


class Load:
    """Threads that append until stopped: some retry under a key, some send once without one."""

    def __init__(self, url: str, org: str, key: str, *, keyed: int = 4, bare: int = 2) -> None:
        self._address = urlsplit(url).netloc
        self._path = f"/v1/orgs/{org}/entries"
        self._key = key
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.ledger = Ledger()
        self._threads = [
            threading.Thread(target=self._run, args=(number, number < keyed), daemon=True)
            for number in range(keyed + bare)
        ]

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Append while the block runs; at its end every keyed request is retried until it succeeds."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """Send no new request and wait for those in progress (servers must run, or have ended)."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), f"a client got no answer: {self.ledger.refusal}"

    def wait_for(self, more: int) -> None:
        """Wait until so many more events are acknowledged."""
        target = len(self.ledger.acknowledged) + more
        deadline = time.monotonic() + PATIENCE_S
        while len(self.ledger.acknowledged) < target:
            assert time.monotonic() < deadline, (
                f"no event was acknowledged in time; {self.ledger.surprises[-3:]}; {self.ledger.refusal}"
            )
            time.sleep(PAUSE_S)

    def _run(self, client: int, keyed: bool) -> None:
        for number in count():
            if self._stop.is_set():
                break
            names = [f"{client}-{number}-{part}" for part in range(1 if number % 3 else BATCH)]
            self.ledger.batches.append(names)
            if keyed:
                self.ledger.keyed.update(names)
            while not self._send(names, keyed) and keyed:
                time.sleep(PAUSE_S)

    def _send(self, names: list[str], keyed: bool) -> bool:
        headers = {"x-api-key": self._key, "content-type": "application/json"}
        if keyed:
            headers["idempotency-key"] = names[0]
        # The leaf has the action in plain text, whatever the org seals.
        body = json.dumps([{"action": name, "subject": f"person {len(name)}"} for name in names])
        connection = http.client.HTTPConnection(self._address, timeout=REQUEST_TIMEOUT_S)
        try:
            connection.request("POST", self._path, body, headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.ledger.refusal = repr(error)
            return False
        finally:
            with contextlib.suppress(OSError):
                connection.close()
        if status == 201:
            entries = json.loads(content)["entries"]
            with self._lock:
                self.ledger.acknowledged.update(
                    (name, entry["seq"]) for name, entry in zip(names, entries, strict=True)
                )
            return True
        self.ledger.refusal = f"{status} {content[:300]!r}"
        if status not in RETRYABLE:
            self.ledger.surprises.append(f"{status} {content[:300]!r}")
        return False
