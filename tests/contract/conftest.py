"""Each contract test runs on the twin and on a real stream."""

from collections.abc import AsyncIterator

import pytest
from tests.contract.worlds import World, opened

KINDS = ["memory", "jetstream"]


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, nats_url: str, domain: str) -> AsyncIterator[World]:
    """A log on a shared server."""
    async with opened(request.param, domain, url=nats_url) as world:
        yield world


@pytest.fixture(params=KINDS)
async def small_world(request: pytest.FixtureRequest, nats_url: str, domain: str) -> AsyncIterator[World]:
    """A log with room for about 100 kB."""
    async with opened(request.param, domain, url=nats_url, room=100_000) as world:
        yield world


@pytest.fixture(params=KINDS)
async def own_world(request: pytest.FixtureRequest, domain: str) -> AsyncIterator[World]:
    """A log on a server that the test may stop and kill."""
    async with opened(request.param, domain, url=None) as world:
        yield world
