"""What all tests may share: one real server for each worker, and a domain of its own for each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hocket.ids import fresh
from hocket.log.server import EmbeddedServer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_url() -> AsyncIterator[str]:
    """A real server that lives as long as the worker. Tests that kill theirs start one themselves.

    This one outlives its tests, so that nothing is proved by it waiting for the disk at every append.
    """
    async with EmbeddedServer(None, sync="2m") as server:
        yield server.url


@pytest.fixture
def domain() -> str:
    """A domain that no other test uses."""
    return fresh()
