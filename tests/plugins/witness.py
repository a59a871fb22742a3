"""Fixtures: real witnesses as processes of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.witness_process import WitnessProcess

StartWitness = Callable[..., WitnessProcess]


@pytest.fixture
def start_witness(session_dir: Path) -> Iterator[StartWitness]:
    """Start witnesses: `start_witness("log VKEY\\n", name="w2.example")`; killed after the test."""
    running: list[WitnessProcess] = []

    def start(logs: str, name: str = "witness.example/w1") -> WitnessProcess:
        witness = WitnessProcess(session_dir / f"w-{uuid4().hex[:8]}", logs, name)
        running.append(witness)
        witness.start()
        return witness

    yield start
    for witness in running:
        witness.stop()
