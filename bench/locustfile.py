"""A realistic mixture of load: writers, batch writers, readers and verifiers on one org.

    QUIRE_API_KEY=quire_live_… locust -f bench/locustfile.py --host http://127.0.0.1:8080

reads its org from BENCH_ORG (default: demo). ``--headless -u 20 -r 5 -t 1m`` needs
no browser. Locust itself costs far more than the server's work, so this finds
errors under a mixture of load; `python -m bench` measures speed.
"""

from __future__ import annotations

import itertools
import os
import random

import msgspec
from locust import HttpUser, between, constant, task

from bench import events as samples

ORG = os.environ.get("BENCH_ORG", "demo")
KEY = os.environ.get("QUIRE_API_KEY", "")
BATCH_EVENTS = 1_000
VERIFY_LAST = 10_000
"""Number of newest entries that a verifier verifies."""
_BATCH = samples.batch(0, BATCH_EVENTS)
_numbers = itertools.count()


if not KEY:
    raise SystemExit("QUIRE_API_KEY is not set; set it to an API key of the org BENCH_ORG (demo)")


class LedgerUser(HttpUser):
    """A user with the key of an org."""

    abstract = True

    def on_start(self) -> None:
        self.client.headers.update({"x-api-key": KEY, "Content-Type": "application/json"})
        self.org = f"/v1/orgs/{ORG}"


class RowWriter(LedgerUser):
    """Appends single events as fast as they are answered."""

    weight = 10
    wait_time = constant(0)

    @task
    def append(self) -> None:
        body = samples.event(next(_numbers))
        self.client.post(f"{self.org}/entries", body, name="append one")


class BatchWriter(LedgerUser):
    """Appends a thousand events at a time."""

    weight = 2
    wait_time = between(0.1, 0.5)

    @task
    def append(self) -> None:
        self.client.post(
            f"{self.org}/entries",
            _BATCH,
            headers={"Prefer": "return=minimal"},
            name="append a batch",
        )


class Reader(LedgerUser):
    """Reads the newest entries, one of them, and the entries on a subject."""

    weight = 5
    wait_time = between(0.05, 0.2)

    @task(3)
    def newest(self) -> None:
        with self.client.get(
            f"{self.org}/entries?limit=20", name="newest page", catch_response=True
        ) as answer:
            if not answer.ok:
                answer.failure(f"status {answer.status_code}")
                return
            found = answer.json()["entries"]
        if found:
            record = random.choice(found)["record_id"]
            self.client.get(f"{self.org}/entries/{record}", name="one entry")

    @task(2)
    def by_subject(self) -> None:
        subject = samples.subject(random.randrange(samples.SUBJECTS))
        self.client.get(
            f"{self.org}/entries", params={"subject": subject, "limit": 20}, name="by subject"
        )

    @task(1)
    def head(self) -> None:
        self.client.get(f"{self.org}/head", name="head")


class Verifier(LedgerUser):
    """Verifies the newest entries and reads the verdict."""

    weight = 1
    wait_time = between(2, 5)

    @task
    def verify(self) -> None:
        newest = self.client.get(f"{self.org}/head", name="head").json()["seq"]
        if newest < 0:
            return
        body = msgspec.json.encode({"from_seq": max(newest - VERIFY_LAST, 0), "to_seq": newest})
        with self.client.post(
            f"{self.org}/verifications?wait=30", body, name="verify", catch_response=True
        ) as answer:
            result = answer.json().get("result") if answer.ok else None
            if answer.ok and result is not None and result["verdict"] == "refuted":
                answer.failure(f"the trail has faults: {result['errors'][:3]}")
