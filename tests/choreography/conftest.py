"""What tests that host small services share: an empty directory for them, a bus, and somebody who watches."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.choreography.folders import Seen

from hocket.client import Bus, connect


@pytest.fixture
def seen() -> Seen:
    """Sees what becomes of a fleet's services."""
    return Seen()


@pytest.fixture
def services(tmp_path: Path) -> Path:
    """Where the services of a test are put."""
    directory = tmp_path / "services"
    directory.mkdir()
    return directory


@pytest.fixture
async def bus(nats_url: str, domain: str) -> AsyncIterator[Bus]:
    """The test's own bus."""
    async with connect(nats_url, domain=domain) as bus:
        yield bus
