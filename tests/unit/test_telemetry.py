"""Spans: one trace from the publisher through every hop, each hop linked to the one before."""

import logging

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hocket import Agent
from hocket.clock import LoopClock
from hocket.log.memory import MemoryServer
from hocket.telemetry import SPAN_COMMIT, SPAN_HANDLE, SPAN_PUBLISH, note, tracing
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Asked(Event, type="trace.asked.v1", catalog=EVENTS):
    pass


class Passed(Event, type="trace.passed.v1", catalog=EVENTS):
    pass


class Answered(Event, type="trace.answered.v1", catalog=EVENTS):
    pass


def chain() -> list[str | None]:
    """Two hops on a bed; what each event carries as its traceparent."""
    first, second = Agent("first"), Agent("second")

    @first.on(Asked)
    async def pass_on(event: Asked) -> Passed:
        return Passed()

    @second.on(Passed)
    async def answer(event: Passed) -> Answered:
        return Answered()

    async def story() -> list[str | None]:
        async with Bed(first, second, server=MemoryServer(clock=LoopClock())) as bed:
            await bed.publish(Asked(), key="k")
            await bed.quiet()
            return [delivery.envelope.traceparent async for delivery in bed.bus.read()]

    return run_virtual(story())


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def test_one_trace_leads_from_the_publisher_through_every_hop(spans: InMemorySpanExporter) -> None:
    carried = chain()

    (published,) = named(spans, SPAN_PUBLISH)
    hops = named(spans, SPAN_HANDLE)
    assert len(hops) == 2
    for before, hop in zip([published, hops[0]], hops, strict=True):
        assert before.context
        assert hop.context
        assert hop.parent
        assert hop.context.trace_id == before.context.trace_id
        assert hop.parent.span_id == before.context.span_id
        assert [link.context.span_id for link in hop.links] == [before.context.span_id]
    assert [t and t.split("-")[2] for t in carried] == [
        f"{span.context.span_id:016x}" for span in (published, *hops) if span.context
    ]
    assert [hop.attributes["gen_ai.agent.name"] for hop in hops if hop.attributes] == ["first", "second"]
    assert named(spans, SPAN_COMMIT)


def test_without_an_sdk_nothing_is_traced_and_what_came_with_the_event_is_passed_on() -> None:
    assert not tracing()
    assert chain() == [None, None, None]


def test_a_log_line_is_a_name_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="hocket"):
        note(logging.INFO, "owns", agent="writer", token=7)

    (record,) = caplog.records
    assert record.getMessage() == "owns"
    assert vars(record)["fields"] == {"agent": "writer", "token": 7}
