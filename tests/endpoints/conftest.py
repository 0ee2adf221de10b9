from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalsuite.generators.endpoints.client import Session

# Test files are imported one by one, without their folder: the server is a module beside them.
sys.path.insert(0, str(Path(__file__).parent))

from endpoint_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture
def session(server: FakeServer, tmp_path: Path) -> Iterator[Session]:
    with Session(
        tmp_path / "answers.sqlite", url=server.url, backoff=0.01, max_wait=2, timeout=5
    ) as opened:
        yield opened
