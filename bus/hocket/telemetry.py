"""What hocket says about itself while it works: one table of names, spans, and log lines as name plus fields.

Nothing is exported unless the program installs an OpenTelemetry SDK; without one, spans cost a check.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.propagators.textmap import default_getter
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hocket import conventions

SPAN_PUBLISH: Final = "hocket.publish"
SPAN_HANDLE: Final = "hocket.handle"
SPAN_COMMIT: Final = "hocket.commit"

ATTRIBUTE_AGENT: Final = conventions.AGENT_NAME
ATTRIBUTE_CONVERSATION: Final = conventions.CONVERSATION_ID
ATTRIBUTE_SYSTEM: Final = "messaging.system"
ATTRIBUTE_OPERATION: Final = "messaging.operation.name"
ATTRIBUTE_EVENT_ID: Final = "cloudevents.event_id"
ATTRIBUTE_EVENT_TYPE: Final = "cloudevents.event_type"
ATTRIBUTE_EVENT_SOURCE: Final = "cloudevents.event_source"
ATTRIBUTE_KEY: Final = "hocket.key"
ATTRIBUTE_ATTEMPT: Final = "hocket.attempt"
ATTRIBUTE_COUNT: Final = "messaging.batch.message_count"

LOG: Final = logging.getLogger("hocket")

_PROPAGATOR = TraceContextTextMapPropagator()


def tracing() -> bool:
    """Whether an SDK is installed that would keep a span."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider)


def note(level: int, event: str, **fields: Any) -> None:
    """Log one event name with its fields; a formatter shows them, a collector indexes them."""
    if LOG.isEnabledFor(level):
        LOG.log(level, event, extra={"fields": fields})


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, Any],
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    traceparent: str | None = None,
) -> Iterator[str | None]:
    """Record what happens inside; yields the `traceparent` that what is sent from here should carry.

    A `traceparent` from an event becomes the parent *and* a link: the chain is one trace, and each hop still
    points at the hop before it when a sampler cuts the trace. Attribute names come from this module's table.
    """
    if not tracing():
        yield traceparent
        return
    parent = _PROPAGATOR.extract({"traceparent": traceparent}, getter=default_getter) if traceparent else None
    links = [Link(trace.get_current_span(parent).get_span_context())] if parent else []
    tracer = trace.get_tracer("hocket")
    with tracer.start_as_current_span(name, context=parent, kind=kind, links=links, attributes=attributes):
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        yield carrier.get("traceparent", traceparent)
