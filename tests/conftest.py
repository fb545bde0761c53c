"""What all tests may share: one real server for each worker, a domain of its own for each test, and spans."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

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


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What an installed SDK would export."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()
