"""What all tests may share: one real server for each worker, and a domain of its own for each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hocket.ids import fresh
from hocket.log.server import EmbeddedServer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_url() -> AsyncIterator[str]:
    """A real server that lives as long as the worker. Tests that kill theirs start one themselves."""
    async with EmbeddedServer(None) as server:
        yield server.url


@pytest.fixture
def domain() -> str:
    """A domain that no other test uses."""
    return fresh()
